//! Loaded into User-Mode Linux before its C library (`LD_PRELOAD`), and into nothing else.
//!
//! User-Mode Linux keeps what a guest's process has in its floating-point and vector registers in 2,696 octets. Where the
//! processor has more (AMX: 11,008), the host takes no part of a set of registers (`PTRACE_SETREGSET` fails with
//! EFAULT), and the guest's first process dies of that. So the whole set is asked for and given here: the kernel's part of
//! it, and zeros for what no program of the guest can use, which is their state at the start.
//!
//! `build.rs` compiles this by itself, without a standard library: it must not need what the program brings along.
#![no_std]
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_long, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// `ptrace`'s number among the system calls of x86-64.
const SYS_PTRACE: c_long = 101;
/// Requests that give one word back (ptrace(2): PEEKTEXT, PEEKDATA, PEEKUSER), which the C library gives as its result.
const PEEKS: core::ops::RangeInclusive<c_int> = 1..=3;
const GETREGSET: c_int = 0x4204;
const SETREGSET: c_int = 0x4205;
/// The set of all that XSAVE saves (`NT_X86_XSTATE`).
const XSTATE: usize = 0x202;

/// More than any processor saves.
const ROOM: usize = 64 * 1024;

/// `struct iovec`.
#[repr(C)]
struct Part {
    base: *mut u8,
    len: usize,
}

/// Room for one set. Its kernel is one thread, which is not interrupted by itself while it asks for registers.
#[repr(align(64))]
struct Room(UnsafeCell<[u8; ROOM]>);

// SAFETY: see there.
unsafe impl Sync for Room {}

static TAKEN: Room = Room(UnsafeCell::new([0; ROOM]));
/// Beyond what was ever given it is zeros.
static GIVEN: Room = Room(UnsafeCell::new([0; ROOM]));
/// The length of the host's set; 0: not known yet.
static LENGTH: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// The C library's function of this name (ptrace(2)).
///
/// # Safety
/// The contract of ptrace(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptrace(
    request: c_int,
    pid: c_int,
    address: *mut c_void,
    data: *mut c_void,
) -> c_long {
    if (request == GETREGSET || request == SETREGSET) && address as usize == XSTATE {
        // SAFETY: these requests come with a `struct iovec`.
        return unsafe { registers(request, pid, address, &mut *data.cast::<Part>()) };
    }
    let mut word: c_long = 0;
    let peeks = PEEKS.contains(&request);
    let data = if peeks { (&raw mut word).cast() } else { data };
    // SAFETY: the caller's arguments; where it peeks, a word of ours.
    let result = unsafe { call(request, pid, address, data) };
    if peeks && result >= 0 {
        // SAFETY: the thread's own; the caller can't tell -1 from a word otherwise.
        unsafe { *__errno_location() = 0 };
        return word;
    }
    result
}

/// # Safety
/// `part` is as ptrace(2) wants it.
unsafe fn registers(request: c_int, pid: c_int, address: *mut c_void, part: &mut Part) -> c_long {
    let room = if request == GETREGSET { TAKEN.0.get() } else { GIVEN.0.get() }.cast::<u8>();
    let length = match LENGTH.load(Ordering::Relaxed) {
        0 => ROOM,
        known => known,
    };
    if length <= part.len {
        // SAFETY: the caller's.
        return unsafe { call(request, pid, address, ptr::from_mut(part).cast()) };
    }
    let mut whole = Part { base: room, len: length };
    if request == SETREGSET {
        // SAFETY: the part is shorter than the room, and not in it.
        unsafe { ptr::copy_nonoverlapping(part.base, room, part.len) };
    }
    // SAFETY: the room is as long as is said.
    let result = unsafe { call(request, pid, address, (&raw mut whole).cast()) };
    if request == GETREGSET && result >= 0 {
        LENGTH.store(whole.len, Ordering::Relaxed);
        part.len = part.len.min(whole.len);
        // SAFETY: as above, the other way round.
        unsafe { ptr::copy_nonoverlapping(room, part.base, part.len) };
    }
    result
}

/// The system call. The result is -1 and `errno` is set where it fails.
///
/// # Safety
/// The contract of ptrace(2).
unsafe fn call(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long {
    let mut result = SYS_PTRACE;
    // SAFETY: the kernel's convention; it changes rcx and r11 besides.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") c_long::from(request), in("rsi") c_long::from(pid),
            in("rdx") address, in("r10") data, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if result < 0 {
        // SAFETY: the thread's own.
        unsafe { *__errno_location() = (-result) as c_int };
        return -1;
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
