//! What a region hands over of what sources said.

use cryptlet_seal::recorded_sources;
use cryptlet_types::{
    bounded::clip,
    recording::Recorded,
    region::{RegionSettings, SourceProof},
};

/// What was kept of a run, and the settings of its region, without which it cannot be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecording {
    /// What policy had decided for the region.
    pub settings: RegionSettings,
    /// What was recorded.
    pub recorded: Recorded,
}

impl RunRecording {
    /// What a region under `settings` hands over, which is taken only where it was asked for, and is then of what the region says
    /// that its sources said. The error says what the region answered with.
    pub(crate) fn of(
        settings: &RegionSettings,
        sources: &[SourceProof],
        recorded: Option<Recorded>,
    ) -> Result<Option<Box<Self>>, String> {
        let recorded = match (recorded, settings.recording.is_off()) {
            (None, true) => return Ok(None),
            (None, false) => return Err("no recording, which policy asks for".into()),
            (Some(_), true) => return Err("a recording that nobody asked for".into()),
            (Some(recorded), false) => recorded,
        };
        if let Recorded::Whole(recording) = &recorded {
            recording
                .check()
                .map_err(|error| clip(&error.to_string()))?;
            if recorded_sources(recording) != sources {
                return Err("a recording of other sources".into());
            }
        }
        let settings = settings.clone();
        Ok(Some(Box::new(Self { settings, recorded })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cryptlet_types::{
        Limits, Sha256Digest,
        policy::RecordingRule,
        recording::{Exchange, ExchangeOutcome, MAX_RECORDING_BYTES, RecordedResponse, Recording},
    };

    fn settings(recording: RecordingRule) -> RegionSettings {
        RegionSettings {
            limits: Limits::default(),
            egress: vec![],
            recording,
        }
    }

    fn said(body: Vec<u8>) -> Recording {
        let response = RecordedResponse {
            status: 200,
            certificate: Sha256Digest(B256::ZERO),
            headers: vec![],
            body: body.into(),
        };
        Recording {
            exchanges: vec![Exchange {
                url: "https://a.example/".into(),
                request: Sha256Digest(B256::ZERO),
                outcome: ExchangeOutcome::Response(response),
            }],
            signed: Vec::new(),
        }
    }

    #[test]
    fn a_region_hands_over_what_was_asked_for_and_nothing_else() {
        let (off, on) = (
            settings(RecordingRule::Off),
            settings(RecordingRule::Exchanges),
        );
        let recording = said(b"rates".to_vec());
        let sources = recorded_sources(&recording);
        let whole = Recorded::Whole(recording);
        let of =
            |settings: &RegionSettings, recorded| RunRecording::of(settings, &sources, recorded);
        assert_eq!(of(&off, None), Ok(None));
        let kept = of(&on, Some(whole.clone())).unwrap().unwrap();
        assert_eq!((kept.settings, kept.recorded), (on.clone(), whole.clone()));
        assert!(of(&on, Some(Recorded::TooLarge)).unwrap().is_some());

        let refused = |settings, recorded| of(settings, recorded).unwrap_err();
        assert!(refused(&on, None).contains("no recording"));
        assert!(refused(&off, Some(whole)).contains("nobody asked"));
        assert!(refused(&off, Some(Recorded::TooLarge)).contains("nobody asked"));
        for other in [said(b"other".to_vec()), Recording::default()] {
            let reason = refused(&on, Some(Recorded::Whole(other)));
            assert!(reason.contains("other sources"), "{reason}");
        }
        let large = Recorded::Whole(said(vec![0; MAX_RECORDING_BYTES]));
        assert!(refused(&on, Some(large)).contains("at most"));
    }
}
