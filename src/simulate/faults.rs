//! What can go wrong: the fault alphabet.

use super::random::{Random, Rate};

/// Declares the classes of faults with their names and what they do.
macro_rules! faults {
    ($( #[doc = $sentence:literal] $fault:ident => $name:literal, )*) => {
        /// A class of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $( #[doc = $sentence] $fault, )* }

        impl Fault {
            /// Every class.
            pub const ALL: &'static [Self] = &[ $( Self::$fault, )* ];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $( Self::$fault => $name, )* }
            }

            /// What happens.
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$fault => $sentence.trim_ascii(), )* }
            }
        }
    };
}

faults! {
    /// Event Grid's attempt never reaches the function.
    DeliveryLost => "deliveryLost",
    /// The host has only just started and answers an attempt with an error before the function sees it.
    ColdStart => "coldStart",
    /// The function's answer never reaches Event Grid, which waits 30 s and delivers again.
    AnswerLost => "answerLost",
    /// Another event of the same delivery fails: the host answers for all of them, and all are delivered again.
    BatchFailed => "batchFailed",
    /// Event Grid delivers an event several times, at about the same time.
    Duplicated => "duplicated",
    /// A delivery comes minutes late, after what was published later.
    Delayed => "delayed",
    /// A delivery fails until Event Grid gives it up after 24 h; somebody replays the dead letter later.
    DeadLettered => "deadLettered",
    /// A damaged copy of an event, or one of a type that nobody knows, is delivered too.
    Poisoned => "poisoned",
    /// An event comes from a newer publisher, with fields and attributes that nobody here knows.
    NewerVersion => "newerVersion",
    /// An event comes from an older publisher, without the attributes that it may lack.
    OlderVersion => "olderVersion",
    /// The process is killed at an await point, with all that runs in it.
    Crash => "crash",
    /// The machine's clock is wrong by some seconds.
    ClockSkew => "clockSkew",
    /// The store refuses a transaction: a conflict, or no connection.
    StoreRefused => "storeRefused",
    /// The store does not answer, and nothing was written.
    StoreTimeout => "storeTimeout",
    /// The store does not answer, and everything was written.
    StoreUnanswered => "storeUnanswered",
    /// The store takes longer than Event Grid waits: the event is delivered again while this delivery runs.
    StoreStalled => "storeStalled",
    /// The note that events were published is lost.
    MarkLost => "markLost",
    /// The topic refuses events: 429 or 5xx.
    TopicRefused => "topicRefused",
    /// The topic refuses the request that the events are in: 413, too large.
    TopicTooLarge => "topicTooLarge",
    /// The topic takes some of the events and says that it failed; all of them are published again.
    TopicPartial => "topicPartial",
    /// The topic takes the events without an answer, and the publisher sends all of them again at once.
    TopicResent => "topicResent",
    /// The topic does not answer, and took nothing.
    TopicTimeout => "topicTimeout",
    /// The topic does not answer, and took the events.
    TopicUnanswered => "topicUnanswered",
    /// Payment provider or carrier does not answer, and did nothing.
    EffectTimeout => "effectTimeout",
    /// Payment provider or carrier does not answer, and did what it was asked.
    EffectUnanswered => "effectUnanswered",
    /// Payment provider or carrier does what it was asked only after the caller has given up.
    EffectLate => "effectLate",
    /// Payment provider and carrier answer nothing about an order, for minutes or, rarely, for days.
    EffectOutage => "effectOutage",
}

/// The mask of every class.
const ALL: u32 = u32::MAX;

/// Which faults happen, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How likely each is each time it could happen.
    pub rate: Rate,
    classes: u32,
}

impl Faults {
    /// All classes at a rate.
    pub fn at(rate: Rate) -> Self {
        Self { rate, classes: ALL }
    }

    /// These classes alone.
    #[must_use]
    pub fn only(self, classes: &[Fault]) -> Self {
        let classes = classes.iter().fold(0, |mask, class| mask | bit(*class));
        Self { classes, ..self }
    }

    /// Without one class.
    #[must_use]
    pub fn without(self, class: Fault) -> Self {
        let classes = self.classes & !bit(class);
        Self { classes, ..self }
    }

    /// Whether a class may happen.
    pub fn has(self, class: Fault) -> bool {
        self.classes & bit(class) != 0
    }

    /// The classes that may happen.
    pub fn classes(self) -> impl Iterator<Item = Fault> {
        Fault::ALL
            .iter()
            .copied()
            .filter(move |class| self.has(*class))
    }

    /// Whether a fault happens now. A class that is left out uses up its random number all the same, so that leaving
    /// it out changes as little else as possible.
    pub(super) fn strike(self, class: Fault, random: &mut Random) -> bool {
        random.strikes(self.rate) && self.has(class)
    }
}

fn bit(class: Fault) -> u32 {
    1 << (class as u32)
}
