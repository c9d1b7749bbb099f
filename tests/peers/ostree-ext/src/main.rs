//! `ostree-ext container image pull REPO ostree-unverified-image:oci:LAYOUT`, and its other verbs.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    ostree_ext::cli::run_from_iter(std::env::args_os()).await
}
