//! A driver's time with the device: its queues, and the requests on their way.
//!
//! Each request gets a number of the device's own while it is at the server: what the guest calls it need not be unique,
//! and an answer that was meant for a driver before this one finds nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use virtio_queue::QueueT;

use super::message::{ANSWER_HEADER, AnswerHeader, Course, Request, failure};
use super::server::{Connection, Sent, Server, Waiting};
use crate::memory::Memory;
use crate::virtio::chain::{Buffers, Run, next_chain};
use crate::virtio::device::{ActiveQueue, VirtioInterrupt};

/// How many requests a queue may have taken, and how many answers are, before the others have their turn and the guest is
/// told.
const BATCH: usize = 64;

/// How many requests are at the server at most, also of a guest that makes one chain available many times.
pub(super) const MOST_PENDING: usize = 512;

pub(super) struct Session<'m> {
    memory: &'m Memory,
    queues: Vec<Queued>,
    interrupt: Arc<dyn VirtioInterrupt>,
    pending: BTreeMap<u64, Pending<'m>>,
}

struct Queued {
    index: u16,
    active: ActiveQueue,
    /// Chains were used that the driver may have to be told of.
    used: bool,
}

/// A request at the server.
struct Pending<'m> {
    /// Its place among `queues`.
    queue: usize,
    head: u16,
    /// By which the guest knows it.
    unique: u64,
    writable: Run<'m>,
}

impl<'m> Session<'m> {
    pub(super) fn new(
        memory: &'m Memory,
        queues: Vec<Option<ActiveQueue>>,
        interrupt: Arc<dyn VirtioInterrupt>,
    ) -> Self {
        let queues = (0..)
            .zip(queues)
            .filter_map(|(index, active)| Some(Queued { index, active: active?, used: false }))
            .collect();
        Self { memory, queues, interrupt, pending: BTreeMap::new() }
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &ActiveQueue> {
        self.queues.iter().map(|queue| &queue.active)
    }

    /// By index.
    pub(super) fn progress(&self) -> Vec<Option<(u16, u16)>> {
        let mut progress = Vec::new();
        for Queued { index, active, .. } in &self.queues {
            progress.resize(usize::from(*index), None);
            progress.push(Some(active.progress()));
        }
        progress
    }

    /// The rings make no sense (virtio 1.3 §2.1.2).
    pub(super) fn give_up(self) {
        self.interrupt.needs_reset();
    }

    /// Takes in answers and sends requests; tells whether there is more to do at once.
    pub(super) fn serve(
        &mut self,
        server: &mut Server,
        last_number: &mut u64,
    ) -> Result<bool, virtio_queue::Error> {
        if let Server::There(connection) = server
            && self.take_answers(connection)?
        {
            *server = Server::Gone;
        }
        let mut more = false;
        for queue in 0..self.queues.len() {
            more |= self.take_requests(queue, server, last_number)?;
        }
        if matches!(server, Server::Gone) {
            self.fail_pending()?;
        }
        self.notify()?;
        Ok(more)
    }

    /// Tells whether the server is gone.
    fn take_answers(&mut self, connection: &Connection) -> Result<bool, virtio_queue::Error> {
        for _ in 0..BATCH {
            match connection.peek() {
                Waiting::Answer(header, length) => self.take_answer(connection, header, length)?,
                Waiting::Nonsense => connection.discard(),
                Waiting::Nothing => return Ok(false),
                Waiting::Gone => return Ok(true),
            }
        }
        Ok(false)
    }

    fn take_answer(
        &mut self,
        connection: &Connection,
        header: AnswerHeader,
        length: usize,
    ) -> Result<(), virtio_queue::Error> {
        let Some(Pending { queue, head, unique, writable }) = self.pending.remove(&header.unique) else {
            connection.discard();
            return Ok(());
        };
        let fits = usize::try_from(header.length) == Ok(length) && length as u64 <= writable.len();
        let written = match fits.then(|| connection.receive(&writable)) {
            Some(Ok(received)) if received == length => {
                put_unique(&writable, unique);
                u32::try_from(length).unwrap_or(u32::MAX)
            }
            Some(_) => answer_with(&writable, unique, libc::EIO),
            None => {
                connection.discard();
                answer_with(&writable, unique, libc::EIO)
            }
        };
        self.complete(queue, head, written)
    }

    /// Tells whether there is more to do at once.
    fn take_requests(
        &mut self,
        queue: usize,
        server: &mut Server,
        last_number: &mut u64,
    ) -> Result<bool, virtio_queue::Error> {
        for _ in 0..BATCH {
            let ready = match server {
                Server::NotYet => false,
                Server::There(connection) => !connection.is_full() && self.pending.len() < MOST_PENDING,
                Server::Gone => true,
            };
            let Some(queued) = self.queues.get_mut(queue).filter(|_| ready) else { return Ok(false) };
            let Some(chain) = next_chain(&mut queued.active.queue, self.memory)? else { return Ok(false) };
            let head = chain.head_index();
            let request = Buffers::of(chain, self.memory).ok().and_then(Request::of);
            let written = match request {
                Some(request) => match self.pass_on(queue, head, request, server, last_number) {
                    Passed::Done(written) => written,
                    Passed::Sent => continue,
                    Passed::NotYet => {
                        self.put_back(queue);
                        return Ok(false);
                    }
                },
                // Nobody could be told what is wrong with it.
                None => 0,
            };
            self.complete(queue, head, written)?;
        }
        Ok(true)
    }

    fn pass_on(
        &mut self,
        queue: usize,
        head: u16,
        request: Request<'m>,
        server: &mut Server,
        last_number: &mut u64,
    ) -> Passed {
        let unique = request.unique();
        let course = request.course();
        if let Course::Refuse(error) = course {
            return Passed::Done(answer_with(&request.writable, unique, error));
        }
        let Server::There(connection) = server else {
            return Passed::Done(answer_with(&request.writable, unique, libc::ENOTCONN));
        };
        let number = last_number.wrapping_add(1);
        match connection.send(&request.header_as(number), &request.body) {
            Sent::Done => *last_number = number,
            Sent::Full => return Passed::NotYet,
            Sent::Refused => return Passed::Done(answer_with(&request.writable, unique, libc::EIO)),
            Sent::Gone => {
                *server = Server::Gone;
                return Passed::Done(answer_with(&request.writable, unique, libc::ENOTCONN));
            }
        }
        if course == Course::Tell {
            return Passed::Done(0);
        }
        self.pending.insert(number, Pending { queue, head, unique, writable: request.writable });
        Passed::Sent
    }

    /// The chain that was taken last is the next again.
    fn put_back(&mut self, queue: usize) {
        if let Some(Queued { active, .. }) = self.queues.get_mut(queue) {
            active.queue.set_next_avail(active.queue.next_avail().wrapping_sub(1));
        }
    }

    fn fail_pending(&mut self) -> Result<(), virtio_queue::Error> {
        for (_, Pending { queue, head, unique, writable }) in std::mem::take(&mut self.pending) {
            let written = answer_with(&writable, unique, libc::ENOTCONN);
            self.complete(queue, head, written)?;
        }
        Ok(())
    }

    fn complete(&mut self, queue: usize, head: u16, written: u32) -> Result<(), virtio_queue::Error> {
        if let Some(Queued { active, used, .. }) = self.queues.get_mut(queue) {
            active.queue.add_used(self.memory, head, written)?;
            *used = true;
        }
        Ok(())
    }

    /// Tells the driver of used chains, where it wants to know.
    fn notify(&mut self) -> Result<(), virtio_queue::Error> {
        for Queued { index, active, used } in &mut self.queues {
            if std::mem::take(used) && active.queue.needs_notification(self.memory)? {
                self.interrupt.used(*index);
            }
        }
        Ok(())
    }
}

/// What became of a request that was taken.
enum Passed {
    /// So many bytes of its writable part were written.
    Done(u32),
    /// It is pending.
    Sent,
    NotYet,
}

/// Says how many bytes that took.
fn answer_with(writable: &Run<'_>, unique: u64, error: i32) -> u32 {
    if writable.len() < ANSWER_HEADER as u64 {
        return 0;
    }
    u32::try_from(writable.copy_in(&failure(unique, error))).unwrap_or(0)
}

/// The answer is to the guest's number.
fn put_unique(writable: &Run<'_>, unique: u64) {
    const AT: u64 = 8;
    if let Some((_, rest)) = writable.split_at(AT) {
        rest.copy_in(&unique.to_ne_bytes());
    }
}
