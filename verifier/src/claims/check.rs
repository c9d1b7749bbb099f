//! The checks that claims name: what of the evidence decides them.

use serde::{Deserialize, Serialize};

macro_rules! checks {
    ($($name:ident $word:literal $about:literal)*) => {
        /// One check, by its name on the page.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Check {
            $(#[doc = $about] $name,)*
        }

        impl Check {
            /// Every check.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name on the page.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// What it looks at.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about),* }
            }
        }
    };
}

checks! {
    Accounted "accounted" "every file of the system is one that the signed bill of materials lists, and none is missing"
    Chain "chain" "the audit chain holds, and is signed by a key that follows from a known one"
    Confirmed "confirmed" "before each profile that lets out more, the chain has who confirmed it, a person or by the operator's leave"
    ConnectionsListed "connections_listed" "no connection but those on loopback and those that the profile allows"
    Cores "cores" "memory of a program that dies is written nowhere"
    DnsChecked "dns_checked" "the last check for leaks of names found none, and is recent"
    DnsListed "dns_listed" "the journal's last lines of the check for leaks of names have a verdict without a leak"
    Listeners "listeners" "nobody listens beyond loopback but the DHCP client where links are up"
    ProfileEntries "profile_entries" "the chain has who changed the profile and when, and ends in the one that is in force"
    Proven "proven" "the rules that are loaded let out what the profile in force allows, and nothing else"
    RulesListed "rules_listed" "the list of rules shows that what leaves is refused by default"
    RulesShipped "rules_shipped" "the rules in the image are those that each profile's page means"
    Said "said" "what is not covered is printed"
    ServiceEntries "service_entries" "the chain's last word on each of our services is the state that it is in"
    Units "units" "our units are as the image has them"
    Wakes "wakes" "no timer, socket or path is active but those on the list"
}
