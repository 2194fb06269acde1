//! Deliberate faults, to show that the simulator detects them.
//!
//! The kernel or a lane calls `is_on` at the place of the fault and then does the wrong thing. Without
//! the feature `mutations` it always returns false and costs nothing; with it, the environment variable
//! `AEMP_MUTATION` names the fault that is on.

macro_rules! mutations {
    ($($name:ident: $breaks:literal,)*) => {
        /// A deliberate fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $breaks] $name,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Mutation] = &[$(Mutation::$name,)*];

            /// Its name in the environment variable.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutation::$name => stringify!($name),)*
                }
            }

            /// What it breaks.
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Mutation::$name => $breaks,)*
                }
            }
        }
    };
}

mutations! {
    KeepRemoteMonitor: "The last monitor of a remote port is not taken back.",
    TellNoPeerOfDeaths: "One of the peers that monitor a port is not told of its death.",
    MissAMonitorOnLoss: "The loss of a node leaves out one of the monitors.",
    ResetLaneEarly: "A lane takes packets before all monitors of the lost node have fired.",
    LeaveHolesInLanes: "A lane that is too full drops single packets.",
    KeepMonitorsOfLostPeers: "A lost peer still monitors ports.",
    AuthenticateAllAtOnce: "Every greeted connection is authenticated, not one after another.",
    RefuseConnectionsUnasked: "A second connection is refused without a probe of the first.",
    ReplaceConnectionsUnasked: "A second connection takes the place of the first without a probe.",
    DoubtWhatProgresses: "A connection that is asked whether it lives is in doubt though octets arrive.",
    NeverGiveUp: "An attempt to connect a node never ends.",
    ForgetLostSeeds: "Lost seeds are not dialled again.",
    ForgetLostGlobals: "Lost global nodes are not connected again.",
    TryOnlyTheFirstAddress: "Only the first address of a node is tried.",
    ReplaceNoMaster: "A lost master is not replaced.",
    AskNoSeedToBeGlobal: "Seeds are not asked to be global.",
    TellNoMasterOfMonitors: "A new master does not learn which families are monitored.",
    RepeatNoQueries: "A new master does not get the outstanding queries.",
    SendOnlyTheFirstPiece: "Of a database that is sent in pieces only the first arrives.",
    QueryForEver: "Queries without a master wait for ever.",
    KeepEntriesOfLostNodes: "The entries of a lost node stay in the database.",
    DropEntriesOfLostGlobals: "What the slaves of a lost global node own goes at once.",
    KeepUnclaimedEntries: "What no node claims after the loss of a global node stays for ever.",
    KeepSubscriptionsOfLostNodes: "The subscriptions of a lost node stay.",
    TellNoGlobalOfDeletions: "Other global nodes are not told of deletions.",
    HideWhatIsTakenOver: "Other global nodes are not told what slaves of a lost one bring unchanged.",
    LoseWhatWaitsForRoom: "Changes that are held back are never sent.",
    OvertakeChangesWithoutRoom: "What a slave asks its master overtakes changes that are held back.",
    TellNoSubscriberOfDeletions: "Subscribers are not told of deletions.",
    KeepStaleSlaves: "A slave that another global node claims is never asked whose it is.",
    HealWithoutBarrier: "A slave is healed before its master had the chance to speak for it.",
    HealWhateverTheAnswer: "A slave is healed whatever it says of its master.",
}

/// Whether this mutation is on.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub(crate) const fn is_on(_: Mutation) -> bool {
    false
}

/// Whether this mutation is on.
#[cfg(feature = "mutations")]
pub(crate) fn is_on(mutation: Mutation) -> bool {
    static ON: std::sync::OnceLock<Option<Mutation>> = std::sync::OnceLock::new();
    let on = || {
        let name = std::env::var("AEMP_MUTATION").ok()?;
        Mutation::ALL.iter().copied().find(|mutation| mutation.name() == name)
    };
    *ON.get_or_init(on) == Some(mutation)
}
