//! The exclusive or of a buffer's words: nothing is left out and nothing read twice.

use ctkvr_cuda::launch::read_words::{self, ReadWords};
use ctkvr_cuda::stand_in::{ORDERS, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error};
use ctkvr_kernels::testing::Random;

fn open() -> Device {
    Device::open_with(0, &[read_words::FAMILY]).unwrap()
}

#[test]
fn every_word_is_read_once() {
    let session = session();
    let device = open();
    let parts_len = ReadWords::parts_len(&device);
    // Around a pass of all threads, and around as many passes as a thread makes at once.
    for (seed, quads) in
        [0, 1, parts_len - 1, parts_len, parts_len + 1, 4 * parts_len - 1, 4 * parts_len, 9 * parts_len + 77].iter().enumerate()
    {
        let mut random = Random(seed as u64);
        let words: Vec<u32> = (0..4 * quads).map(|_| random.bits() as u32).collect();
        let expected = words.iter().fold(0, |all, word| all ^ word);
        let from = DeviceBuffer::from_slice(&device, &words).unwrap();
        for order in ORDERS {
            session.order(order);
            let parts = DeviceBuffer::<u32>::new(&device, parts_len + 8).unwrap();
            let read = ReadWords { from: from.span(), parts: parts.span().part(0..parts_len) };
            read.launch(&device, device.compute()).unwrap();
            let mut parts = parts.to_vec(&device).unwrap();
            assert!(parts.drain(parts_len..).all(|word| word == 0xeeee_eeee), "wrote behind the parts");
            assert_eq!(parts.iter().fold(0, |all, word| all ^ word), expected, "{quads} quads, seed {seed}, {order:?}");
        }
    }
}

#[test]
fn lengths_are_checked() {
    let _session = session();
    let device = open();
    let words = DeviceBuffer::<u32>::zeroed(&device, 64).unwrap();
    let read = ReadWords { from: words.span(), parts: words.span() };
    let expected = ReadWords::parts_len(&device);
    assert_eq!(read.launch(&device, device.compute()), Err(Error::Length { what: "read_words: parts", expected, actual: 64 }));
}
