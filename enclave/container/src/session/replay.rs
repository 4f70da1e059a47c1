//! Repeats a run from its recording: the same instance, limits and answers, and nobody is asked.

use super::{Region, Session, State, next_state, protocol, sized};
use crate::{
    channel::SharedHost,
    recording::{Answers, Replayer},
    runtime::{Answer, Progress, Ran, RunError},
    signing::Voice,
    wake,
};
use alloy_primitives::keccak256;
use cryptlet_types::{
    bounded::clip,
    recording::{ReplayInput, Replayed, ReplayedOutcome},
    region::{CallInAnswer, RegionFault, RunInput, sources_digest},
};

impl Session {
    pub(super) fn replay(
        &self,
        asked: ReplayInput,
        host: &SharedHost,
    ) -> Result<CallInAnswer, RunError> {
        let (State::Created(region) | State::Ready(region, _)) = &self.state else {
            return Err(protocol("a run is repeated after creation").into());
        };
        let ReplayInput { input, recording } = asked;
        region.check_input(&input)?;
        recording
            .check()
            .map_err(|error| protocol(&clip(&error.to_string())))?;
        let answers = Answers::Replayed(Replayer::new(recording, Voice::of(&input)));
        let (wake, now) = (wake::job(&input), input.issued_at);
        let ran = region.wake(wake, host, now, answers)?;
        let replayed = Region::replayed(&input, ran)?;
        Ok(CallInAnswer::Replayed(Box::new(replayed)))
    }
}

impl Region {
    /// What [`Region::conclude`] would make of it, unsigned.
    fn replayed(input: &RunInput, ran: Ran) -> Result<Replayed, RegionFault> {
        let deliver = |payload| sized(payload).map(ReplayedOutcome::Payload);
        let (outcome, state) = match ran.answer {
            Answer::Skip(reason) => (ReplayedOutcome::Skip(clip(&reason)), None),
            Answer::Deliver(payload) => (deliver(payload)?, None),
            Answer::Proceed(Progress { state, payload }) => {
                let step = next_state(input, state)?;
                let outcome = match payload {
                    Some(payload) => deliver(payload)?,
                    None => ReplayedOutcome::Skip(super::goes_on(step.number)),
                };
                (outcome, Some(keccak256(&step.state)))
            }
        };
        let sources = sources_digest(&ran.sources).map_err(|error| protocol(&error.to_string()))?;
        Ok(Replayed {
            outcome,
            state,
            sources,
            fuel_used: ran.fuel_used,
        })
    }
}
