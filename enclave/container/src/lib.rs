//! The shell inside the region. Its dependency tree is what is measured, so it is kept small.
//!
//! A host starts the program with a socket as its standard input, no arguments and an empty environment, and has it divide
//! ([`zygote`]): into processes that load a package each, and these into regions. With each it speaks frames over a stream
//! (see `cryptlet_types::region`). The container hashes its own executable, gives up everything that it does not need
//! ([`sandbox`]), makes its keys, and answers calls ([`session`]) until the host closes the stream. [`runtime`] runs the
//! component, [`imports`] is what the component may ask for, [`http`] is TLS and HTTP that end here, [`recording`] keeps
//! what sources said and repeats it, [`signing`] holds the cryptlet's key.
//!
//! With `--listen ADDRESS --attest KIND` it serves hosts on other machines ([`listen`]): one process a connection ([`apart`]), over
//! TLS that ends in the region ([`attested`]), attested by what the machine has ([`hardware`], [`witness`]). It can be the first
//! process of such a machine (`init`).
//!
//! The host is not believed: it may end a region or let it starve, and nothing else.

extern crate alloc;

pub mod apart;
pub mod arguments;
pub mod attested;
pub mod busy_poll;
pub mod channel;
mod component;
pub mod deadline;
pub mod execution;
pub mod hardware;
pub mod http;
pub mod imports;
mod init;
pub mod listen;
pub mod program;
mod promises;
pub mod recording;
pub mod runtime;
pub mod sandbox;
pub mod session;
pub mod signing;
mod vsock;
mod wake;
pub mod witness;
pub mod zygote;

use channel::{Channel, ChannelError, SharedHost};
use cryptlet_types::{
    bounded::clip,
    region::{RegionFault, ToHost},
};
use session::Session;
use std::{
    cell::RefCell,
    io::{Read, Write},
    rc::Rc,
};

/// Answers the host's calls until a package is loaded; nothing if it closes the stream before. What loading left behind in
/// memory is given back: each region will be a copy of this process.
///
/// # Errors
/// As [`serve`].
pub fn load<S: Read + Write + 'static>(
    stream: S,
    mut session: Session,
) -> Result<Option<Session>, ChannelError> {
    let channel = Rc::new(RefCell::new(Channel::new(stream)));
    let host: SharedHost = channel.clone();
    while !session.is_loaded() {
        let call = channel.borrow_mut().next_call()?;
        let Some(call) = call else {
            return Ok(None);
        };
        let answer = session.answer(call, &host)?;
        channel.borrow_mut().send(&ToHost::Answer(answer))?;
    }
    trim();
    Ok(Some(session))
}

/// Gives free memory back to the system.
#[allow(unsafe_code, reason = "no safe interface to malloc_trim(3)")]
fn trim() {
    // SAFETY: takes no pointer, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Answers the host's calls until it closes the stream.
///
/// # Errors
/// The host broke the protocol; it has been told, if it listens.
pub fn serve<S: Read + Write + 'static>(stream: S, session: Session) -> Result<(), ChannelError> {
    let channel = Rc::new(RefCell::new(Channel::new(stream)));
    let result = converse(&channel, session);
    if let Err(error) = &result {
        let fault = RegionFault::Protocol(clip(&error.to_string()));
        // The host may have gone, and then there is nobody to tell.
        let _ = channel.borrow_mut().send(&ToHost::Answer(Err(fault)));
    }
    result
}

fn converse<S: Read + Write + 'static>(
    channel: &Rc<RefCell<Channel<S>>>,
    mut session: Session,
) -> Result<(), ChannelError> {
    let host: SharedHost = channel.clone();
    loop {
        let call = channel.borrow_mut().next_call()?;
        let Some(call) = call else {
            return Ok(());
        };
        let answer = session.answer(call, &host)?;
        channel.borrow_mut().send(&ToHost::Answer(answer))?;
    }
}
