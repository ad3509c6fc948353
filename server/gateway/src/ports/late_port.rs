//! `IP_BIND_ADDRESS_NO_PORT`, for which neither rustix nor socket2 has a function.

#![allow(unsafe_code, reason = "a socket option without a safe interface")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Lets the kernel choose the local port of `socket` when it connects, not when it is bound.
pub(super) fn choose_at_connect(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the duration of the call, and the pointer and the length describe `on`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
