//! Notices that whoever started the world is gone.

use std::io;
use std::os::fd::AsFd as _;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::settings::Settings;

/// Whoever started the world, seen as the other end of the pipe that is this process's standard input.
pub(super) struct Owner(Option<pipe::Receiver>);

impl Owner {
    /// Nobody, for a detached world.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        if settings.config.detach {
            return Ok(Self(None));
        }
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self(Some(pipe::Receiver::from_owned_fd(input)?)))
    }

    /// Returns when it is gone. Cancel safe: what it reads means nothing.
    pub(super) async fn gone(&mut self) {
        match &mut self.0 {
            Some(pipe) => {
                let mut bytes = [0_u8; 64];
                while pipe.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            }
            None => std::future::pending().await,
        }
    }
}
