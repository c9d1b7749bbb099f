//! A genuine bundle taken apart into the artefacts that changes are made in.

use secai_verifier::digest::Digest;
use secai_verifier::dsse::Envelope;
use secai_verifier::layout;
use secai_verifier::oci::{Config, Index, Manifest};
use secai_verifier::release::Release;
use secai_verifier::statement::{self, Statement};

use super::Files;
use super::change::Which;
use super::layer::{decompress, holds};

/// A layer, compressed and not, with what manifest and config say of it.
#[derive(Clone)]
pub struct Layer {
    /// As it lies in the bundle.
    pub blob: Vec<u8>,
    /// The archive in it.
    pub archive: Vec<u8>,
    /// Its owners.
    pub components: Vec<String>,
    /// Its line of the history.
    pub made_by: String,
    /// Where it lies.
    pub path: String,
}

/// A bundle's artefacts.
#[derive(Clone)]
pub struct Parts {
    pub files: Files,
    pub layers: Vec<Layer>,
    pub index: Index,
    pub manifest: Manifest,
    pub config: Config,
    pub commit: Vec<u8>,
    pub envelope: Envelope,
    pub statement: Statement,
    pub document: Vec<u8>,
    pub release_envelope: Envelope,
    pub release: Release,
}

impl Parts {
    /// Takes a genuine bundle apart.
    pub fn of(files: &Files) -> Self {
        let blob = |digest: &Digest| &files[&layout::blob_path(digest)];
        let index = Index::parse(&files[layout::INDEX]).unwrap();
        let manifest = Manifest::parse(blob(&index.manifest.digest)).unwrap();
        let config = Config::parse(blob(&manifest.config.digest)).unwrap();
        let layers = manifest.layers.iter().zip(&config.history).map(|(layer, made_by)| Layer {
            blob: blob(&layer.blob.digest).clone(),
            archive: decompress(blob(&layer.blob.digest)),
            components: layer.components.clone(),
            made_by: made_by.clone(),
            path: layout::blob_path(&layer.blob.digest),
        });
        let layers = layers.collect();
        let envelope = Envelope::parse(&files[layout::SBOM_STATEMENT]).unwrap();
        let statement = statement::parse(&envelope.payload).unwrap();
        let document = envelope.payload[statement.predicate.clone()].to_vec();
        let release_envelope = Envelope::parse(&files[layout::RELEASE]).unwrap();
        let release = Release::parse(&release_envelope.payload).unwrap();
        let commit = files[layout::COMMIT_OBJECT].clone();
        let files = files.clone();
        Self {
            files,
            layers,
            index,
            manifest,
            config,
            commit,
            envelope,
            statement,
            document,
            release_envelope,
            release,
        }
    }

    /// Where the manifest lies.
    pub fn manifest_path(&self) -> String {
        layout::blob_path(&self.index.manifest.digest)
    }

    /// Where the config lies.
    pub fn config_path(&self) -> String {
        layout::blob_path(&self.manifest.config.digest)
    }

    /// A layer's position.
    pub fn position(&self, which: &Which) -> usize {
        match which {
            Which::Number(number) => *number,
            Which::Holding(path) => {
                let found = self.layers.iter().skip(1).position(|layer| holds(&layer.archive, path));
                1 + found.unwrap_or_else(|| panic!("no layer holds {path}"))
            }
        }
    }
}
