//! The template a sandbox goes on from: found, or made on first use.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vmm_api::{FdIndex, Identity, Launch, Reply, Request};

use super::boot::{BOOT_LIMIT, adopt, boot};
use super::error::{LaunchError, LaunchPhase, agent_failed, failed};
use super::source::{Source, Start, machine};
use crate::disks::Descriptors;
use crate::identity;
use crate::installation::Installation;
use crate::memory::vm_memory;
use crate::record::StateDir;
use crate::templates::{self, Attempt, Making, SavedFiles, Shape, Template, TemplateInfo, Templates};
use crate::timeline::Timeline;
use crate::vmm::{Vmm, VmmError};

/// How often a start looks whether a template is done that another start makes. It waits as long as that one's boot may take:
/// of many first starts at once one boots, not each, which would take all of them longer.
const LOOK: Duration = Duration::from_millis(100);

/// The template for a sandbox's machine, and its key. None where there is to be none, or it cannot be made: a sandbox boots
/// then, and says itself what it lacks.
pub(super) async fn find_or_make(
    templates: &Templates,
    source: &Source<'_>,
    timeline: &Timeline,
) -> Option<(String, Template)> {
    if !source.installation.templates {
        return None;
    }
    let key = templates::key(source.installation, source.shape).ok()?;
    if let Ok(template) = templates.open(&key) {
        timeline.mark("template found");
        return Some((key, template));
    }
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        let attempt = templates.make(&key, source.shape).ok()?;
        if let Ok(template) = templates.open(&key) {
            timeline.mark("template awaited");
            return Some((key, template));
        }
        match attempt {
            Attempt::Ours(making) => {
                make(making, source.installation, source.shape, source.identity).await.ok()?;
                timeline.mark("template made");
                return Some((key.clone(), templates.open(&key).ok()?));
            }
            Attempt::Theirs if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Attempt::Theirs | Attempt::NoRoom => return None,
        }
    }
}

/// Makes the template for sandboxes with so many vCPUs and such a limit of memory, in bytes, unless it is there.
pub async fn build(
    installation: &Installation,
    state: &StateDir,
    vcpus: u8,
    memory_limit: Option<u64>,
) -> Result<TemplateInfo, LaunchError> {
    let shape = Shape::new(vcpus, vm_memory(memory_limit)?);
    let templates = Templates::of(state);
    let key = templates::key(installation, shape).map_err(LaunchError::TemplateFiles)?;
    if let Ok(there) = templates.find(&key) {
        return Ok(there);
    }
    let making = match templates.make(&key, shape).map_err(LaunchError::TemplateFiles)? {
        Attempt::Ours(making) => making,
        Attempt::Theirs => return Err(LaunchError::TemplateBusy),
        Attempt::NoRoom => return Err(LaunchError::TemplateNoRoom),
    };
    let identity = identity::free(&state.identities()?);
    make(making, installation, shape, identity).await?;
    templates.find(&key).map_err(|error| LaunchError::TemplateFiles(std::io::Error::other(error)))
}

/// Boots a VM up to an agent that waits, and saves it.
async fn make(
    making: Making,
    installation: &Installation,
    shape: Shape,
    identity: Option<Identity>,
) -> Result<(), LaunchError> {
    let SavedFiles { state, memory } = making.files().map_err(LaunchError::TemplateFiles)?;
    let mut descriptors = Descriptors::default();
    let memory_file = Some(descriptors.add(memory));
    let launch = Launch { memory_file, ..machine(installation, shape, identity, &mut descriptors)? };
    let start = Start { request: Request::Launch(launch), descriptors: descriptors.passed };

    let program = &installation.vmm;
    let spawned = Vmm::spawn(program, None);
    let (vmm, incoming) =
        spawned.map_err(|source| LaunchError::Spawn { program: program.clone(), source })?;
    let timeline = Timeline::default();
    let (begun, _incoming) = boot(vmm.handle(), start, incoming, &timeline).await?;
    // Nobody's yet, but clones count their time from its clock.
    let guest = adopt(vmm.handle(), begun, "", &timeline).await?;
    for place in templates::places(shape.vcpus) {
        let added = vmm.handle().call(Request::AddPlace(place), Vec::new()).await;
        added.map_err(|error| failed(LaunchPhase::Save, error))?;
    }
    guest.prepare().await.map_err(agent_failed)?;
    guest.set_clock().await.map_err(agent_failed)?;
    drop(guest);
    let save = Request::Save { state: FdIndex(0) };
    let saved = vmm.handle().call(save, vec![OwnedFd::from(state)]).await;
    match saved.map_err(|error| failed(LaunchPhase::Save, error))? {
        (Reply::Saved, _) => {}
        _ => return Err(failed(LaunchPhase::Save, VmmError::WrongReply)),
    }
    vmm.halt().await;
    vmm.gone().await;
    making.finish().map_err(LaunchError::TemplateFiles)
}
