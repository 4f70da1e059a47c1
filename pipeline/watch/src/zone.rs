//! Wall-clock time in IANA zones, by the rules bundled with this program.

use cryptlet_types::UnixSeconds;
use jiff::{
    Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

/// Longest zone name, in bytes. IANA's longest has 32.
const MAX_ZONE_BYTES: usize = 64;

/// The zone of that very name: `europe/berlin` is none.
pub(crate) fn named(name: &str) -> Option<TimeZone> {
    if name.len() > MAX_ZONE_BYTES || name.eq_ignore_ascii_case("Etc/Unknown") {
        return None;
    }
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (zone.iana_name() == Some(name)).then_some(zone)
}

/// The instant of a wall time: the first one after the gap if it does not exist, the first of two if it exists twice. It never
/// decreases as the wall time grows.
pub(crate) fn resolve(zone: &TimeZone, wall: civil::DateTime) -> Option<Timestamp> {
    let at = |offset: jiff::tz::Offset| offset.to_timestamp(wall).ok();
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset),
        AmbiguousOffset::Fold { before, .. } => at(before),
        // The offset after the gap puts the missing wall time shortly before the transition.
        AmbiguousOffset::Gap { after, .. } => zone
            .following(at(after)?)
            .next()
            .map(|transition| transition.timestamp()),
    }
}

pub(crate) fn timestamp(at: UnixSeconds) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(at).ok()?).ok()
}

pub(crate) fn seconds(at: Timestamp) -> Option<UnixSeconds> {
    UnixSeconds::try_from(at.as_second()).ok()
}
