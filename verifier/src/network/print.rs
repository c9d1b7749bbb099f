//! A ruleset as nft's text, in the form in which `nft list` has it, which `nft -f` reads too.

use super::rules::{Act, Base, Chain, Condition, Elements, Field, Hook, INET_TABLE, LINK_TABLE};
use super::rules::{Limit, Rule, Ruleset, Span, Table, With};
use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (family, name, table) in [("inet", INET_TABLE, &self.inet), ("netdev", LINK_TABLE, &self.links)] {
            if *table != Table::default() {
                writeln!(f, "table {family} {name} {{\n{table}}}")?;
            }
        }
        Ok(())
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // One empty line between two.
        let mut first = true;
        let mut gap = |f: &mut Formatter<'_>| if std::mem::take(&mut first) { Ok(()) } else { writeln!(f) };
        for (name, (packets, bytes)) in &self.counters {
            gap(f)?;
            writeln!(f, "\tcounter {name} {{\n\t\tpackets {packets} bytes {bytes}\n\t}}")?;
        }
        for (name, elements) in &self.sets {
            gap(f)?;
            writeln!(f, "\tset {name} {{\n{elements}\t}}")?;
        }
        for (name, pairs) in &self.maps {
            gap(f)?;
            let pairs = pairs.iter().map(|(proto, mark)| format!("{} : {mark:#010x}", word(Field::L4Proto, *proto)));
            writeln!(f, "\tmap {name} {{\n\t\ttype inet_proto : mark\n{}\t}}", listed(pairs))?;
        }
        for chain in &self.chains {
            gap(f)?;
            write!(f, "{chain}")?;
        }
        Ok(())
    }
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(spans) => {
                let nets = spans.iter().map(|(first, last)| network(*first, *last, 32, Ipv4Addr::from));
                write!(f, "\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n{}", listed(nets))
            }
            Self::V6(spans) => {
                let nets = spans.iter().map(|(first, last)| network(*first, *last, 128, Ipv6Addr::from));
                write!(f, "\t\ttype ipv6_addr\n\t\tflags interval\n\t\tauto-merge\n{}", listed(nets))
            }
            Self::Marks(marks) => {
                write!(f, "\t\ttype mark\n{}", listed(marks.iter().map(|mark| format!("{mark:#010x}"))))
            }
        }
    }
}

/// `elements = { … }`, or nothing for none.
fn listed(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    if elements.is_empty() {
        String::new()
    } else {
        format!("\t\telements = {{ {} }}\n", elements.join(",\n\t\t\t     "))
    }
}

/// `ADDRESS/LENGTH` where the span is a network, an address where it is one, else `FIRST-LAST`.
fn network<N, A: Display>(first: N, last: N, bits: u32, address: impl Fn(N) -> A) -> String
where
    N: Copy + Into<u128>,
{
    let (low, high): (u128, u128) = (first.into(), last.into());
    let free = (low ^ high).count_ones();
    let mask = 1_u128.checked_shl(free).map_or(u128::MAX, |bit| bit - 1);
    match (low ^ high == mask && low & mask == 0, free) {
        (true, 0) => address(first).to_string(),
        (true, _) => format!("{}/{}", address(first), bits - free),
        (false, _) => format!("{}-{}", address(first), address(last)),
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let policy = if self.drops { "drop" } else { "accept" };
        write!(f, "type filter hook {} priority filter; policy {policy};", self.hook)
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Forward => f.write_str("forward"),
            Self::Output => f.write_str("output"),
            Self::Egress(Some(link)) => write!(f, "egress device \"{link}\""),
            Self::Egress(None) => f.write_str("egress"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = self.conditions.iter().map(ToString::to_string).chain(self.acts.iter().map(ToString::to_string));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.with == With::Begin {
            return write!(f, "{} & (syn | ack) {} syn", self.field, if self.not { "!=" } else { "==" });
        }
        write!(f, "{} {}", self.field, if self.not { "!= " } else { "" })?;
        match &self.with {
            With::Begin => Ok(()),
            With::Set(name) => write!(f, "@{name}"),
            With::Link(name) => write!(f, "\"{name}\""),
            With::Values(spans) => {
                let text: Vec<String> = spans.iter().map(|span| values(self.field, *span)).collect();
                match (self.field, text.as_slice()) {
                    (Field::CtState, text) => f.write_str(&text.join(",")),
                    (_, [one]) => f.write_str(one),
                    (_, text) => write!(f, "{{ {} }}", text.join(", ")),
                }
            }
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = Self::ALL.iter().find(|(field, ..)| field == self);
        match words {
            Some((_, one, "", ..)) => f.write_str(one),
            Some((_, one, two, ..)) => write!(f, "{one} {two}"),
            None => Ok(()),
        }
    }
}

fn values(field: Field, (first, last): Span) -> String {
    if first == last { word(field, first) } else { format!("{first}-{last}") }
}

/// A value as nft writes it.
pub(super) fn word(field: Field, value: u64) -> String {
    let known = field.words().iter().find(|(_, number)| *number == value);
    match (known, field) {
        (Some((word, _)), _) => (*word).to_owned(),
        (None, Field::Mark | Field::CtMark) => format!("{value:#010x}"),
        (None, Field::EtherType) => format!("{value:#06x}"),
        (None, _) => value.to_string(),
    }
}

impl Display for Act {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "{limit}"),
            Self::MarkFlow(map) => write!(f, "ct mark set meta l4proto map @{map}"),
            Self::MarkPacket(map) => write!(f, "meta mark set meta l4proto map @{map}"),
            Self::ClearMark => f.write_str("meta mark set 0x00000000"),
            Self::Count(name) => write!(f, "counter name \"{name}\""),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject => f.write_str("reject with tcp reset"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = Self::UNITS.iter().find(|(_, seconds)| *seconds == self.seconds).map_or("second", |(unit, _)| unit);
        write!(f, "limit rate {}/{unit} burst {} packets", self.rate, self.burst)
    }
}
