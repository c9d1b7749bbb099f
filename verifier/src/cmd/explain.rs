//! `verify-release explain [NAME]`.

use std::process::ExitCode;

use clap::Args;
use secai_verifier::audit::refusal::ChainRefusal;
use secai_verifier::device::refusal::DeviceRefusal;
use secai_verifier::network::refusal::NetworkRefusal;
use secai_verifier::refusal::{Refusal, explain};

use super::{Failure, print};

/// Words of the command line.
#[derive(Args)]
pub struct Arguments {
    /// A refusal's name; without it, every name is listed
    name: Option<String>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self.name {
            Some(name) => {
                let text = explain(&name).ok_or_else(|| Failure::UnknownName(name.clone()))?;
                print(&format!("{name}\n\n{text}\n"))?;
            }
            None => {
                let all = [Refusal::ALL, ChainRefusal::ALL, NetworkRefusal::ALL, DeviceRefusal::ALL].concat();
                print(&format!("{}\n", all.join("\n")))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
