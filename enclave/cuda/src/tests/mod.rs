//! Kernels against exact arithmetic, compiled for the processor; and the driver's library, of which a
//! stand-in is called through the same interface.

mod attention;
mod driver;
mod products;
mod rows;

use crate::testing::device;
use crate::{Device, Memory, Part, Pinned, Rows, Table};

/// A device and a way to and from it.
struct Desk {
    device: Device,
    staging: Pinned,
}

impl Desk {
    fn new() -> Option<Self> {
        let device = device().unwrap()?;
        let staging = device.pinned(1 << 16).unwrap();
        Some(Self { device, staging })
    }

    fn bytes(&mut self, data: &[u8]) -> Memory {
        let memory = self.device.alloc(data.len()).unwrap();
        memory.fill(0, data, &mut self.staging).unwrap();
        memory
    }

    fn floats(&mut self, data: &[f32]) -> Memory {
        self.bytes(&data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    }

    fn numbers(&mut self, data: &[u32]) -> Memory {
        self.bytes(&data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    }

    fn room(&self, floats: usize) -> Memory {
        self.device.alloc(4 * floats).unwrap()
    }

    fn read(&mut self, memory: &Memory) -> Vec<f32> {
        let mut host = self.device.pinned(memory.len()).unwrap();
        self.device.download(memory.all(), &mut host, memory.len()).unwrap();
        host.bytes().unwrap().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn read_numbers(&mut self, memory: &Memory) -> Vec<u32> {
        self.read(memory).into_iter().map(f32::to_bits).collect()
    }
}

const fn rows(part: Part<'_>, stride: usize) -> Rows<'_> {
    Rows { part, stride }
}

const fn table(memory: &Memory) -> Table<'_> {
    Table(memory.all())
}

/// 64-bit LCG (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// From -1 to 1.
    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
}

/// A half that is exact: a multiple of 1/64 below 4, and its bits.
fn half(random: &mut Random) -> (f64, u16) {
    let value = f64::from(random.next() % 256) / 64.0;
    (value, half_bits(value))
}

/// The bits of a number that a half holds exactly.
fn half_bits(value: f64) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1023 + 15;
    assert!((1..31).contains(&exponent) && bits & ((1 << 42) - 1) == 0, "{value}");
    (bits >> 48 & 0x8000) as u16 | (exponent as u16) << 10 | (bits >> 42 & 0x3ff) as u16
}

fn near(got: f32, exact: f64, size: f64) -> bool {
    (f64::from(got) - exact).abs() <= 1e-5 * size.max(1.0)
}
