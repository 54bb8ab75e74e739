//! The verbs about images, registries and the disk: none of them runs anything.

use clap::Subcommand;

use super::{
    ContainerPruneArgs, DfArgs, HistoryArgs, ImagePruneArgs, ImagesArgs, ImportArgs, InspectArgs, LoadArgs,
    LoginArgs, LogoutArgs, PruneArgs, PullArgs, PushArgs, RmiArgs, SaveArgs, TagArgs,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    Df(DfArgs),
    History(HistoryArgs),
    Images(ImagesArgs),
    Import(ImportArgs),
    Inspect(InspectArgs),
    Load(LoadArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Prune(PruneArgs),
    Pull(PullArgs),
    Push(PushArgs),
    Rmi(RmiArgs),
    Save(SaveArgs),
    Tag(TagArgs),
    #[command(skip)]
    ImagePrune(ImagePruneArgs),
    #[command(skip)]
    ContainerPrune(ContainerPruneArgs),
}
