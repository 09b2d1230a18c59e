//! Output batching: how many events come in one request.

/// The most events that a subscription may ask for in one request.
const MOST_EVENTS: u32 = 5_000;

/// The most kilobytes that a subscription may prefer in one request.
const MOST_KILOBYTES: u32 = 1_024;

/// What Azure takes where only the number of events is given.
const USUAL_KILOBYTES: u32 = 64;

/// Several events in a request, all of which are delivered or none. Nobody waits for a request to be full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batching {
    /// Never more than this.
    pub(super) events: usize,
    /// Not more than this, except for one event that is larger.
    pub(super) bytes: usize,
}

impl Batching {
    /// Reads both knobs. Nothing if each event comes alone, which is the case with at most one event in a request, as
    /// subscriptions are made by default.
    pub(super) fn new(events: Option<u32>, kilobytes: Option<u32>) -> Result<Option<Self>, String> {
        within("maxEventsPerBatch", events, MOST_EVENTS)?;
        within("preferredBatchSizeInKilobytes", kilobytes, MOST_KILOBYTES)?;
        let events = match (events, kilobytes) {
            (None, None) | (Some(1), _) => return Ok(None),
            (Some(events), _) => events,
            (None, Some(_)) => MOST_EVENTS,
        };
        let bytes = u64::from(kilobytes.unwrap_or(USUAL_KILOBYTES)) * 1_024;
        Ok(Some(Self {
            events: usize::try_from(events).unwrap_or(usize::MAX),
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        }))
    }

    /// Whether one more event of this size may come into a request that has these already.
    pub(super) fn has_room(self, events: usize, bytes: usize, one_more: usize) -> bool {
        events == 0 || (events < self.events && bytes.saturating_add(one_more) <= self.bytes)
    }
}

fn within(member: &str, value: Option<u32>, most: u32) -> Result<(), String> {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(format!("{member} must be from 1 to {most}, it is {value}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_knob_switches_it_on() {
        let read = |events, kilobytes| {
            Batching::new(events, kilobytes)
                .map(|batching| batching.map(|one| (one.events, one.bytes)))
        };
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(Some(1), Some(64)), Ok(None));
        assert_eq!(read(Some(10), None), Ok(Some((10, 65_536))));
        assert_eq!(read(None, Some(2)), Ok(Some((5_000, 2_048))));
        for (events, kilobytes) in [
            (Some(0), None),
            (Some(5_001), None),
            (None, Some(0)),
            (None, Some(1_025)),
        ] {
            assert!(read(events, kilobytes).is_err(), "{events:?} {kilobytes:?}");
        }
    }

    #[test]
    fn a_large_event_comes_alone() {
        let batching = Batching {
            events: 3,
            bytes: 100,
        };
        assert!(batching.has_room(0, 0, 1_000));
        assert!(!batching.has_room(1, 1_000, 1));
        assert!(batching.has_room(2, 60, 40));
        assert!(!batching.has_room(2, 60, 41));
        assert!(!batching.has_room(3, 3, 1));
    }
}
