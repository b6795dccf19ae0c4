//! Times of graphs, by the device's own clock.

use ctkvr_cuda::{Device, Event, Graph};

use crate::Result;

/// Two marks between which the device counts.
pub struct Timer<'a> {
    device: &'a Device,
    start: Event,
    end: Event,
}

impl<'a> Timer<'a> {
    pub fn new(device: &'a Device) -> Result<Self> {
        Ok(Self { device, start: device.timed_event()?, end: device.timed_event()? })
    }

    /// Milliseconds of what `work` gives the compute stream.
    pub fn ms(&self, work: impl FnOnce() -> ctkvr_cuda::Result<()>) -> Result<f64> {
        let stream = self.device.compute();
        stream.record(&self.start)?;
        work()?;
        stream.record(&self.end)?;
        self.end.wait()?;
        Ok(f64::from(self.end.ms_since(&self.start)?))
    }

    /// Milliseconds of a graph.
    pub fn of_graph(&self, graph: &Graph) -> Result<f64> {
        self.ms(|| self.device.compute().launch_graph(graph))
    }

    /// Milliseconds of each graph, as [`in_turns`].
    pub fn of_graphs(&self, graphs: &[Graph], rounds: usize) -> Result<Vec<f64>> {
        let mut contenders: Vec<Contender> =
            graphs.iter().map(|graph| -> Contender { Box::new(|| self.of_graph(graph)) }).collect();
        in_turns(&mut contenders, rounds)
    }
}

/// Does its work once; milliseconds.
pub type Contender<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Milliseconds of each contender: the median of rounds in which they take turns, so that whatever disturbs the machine disturbs them all.
pub fn in_turns(contenders: &mut [Contender], rounds: usize) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let ms = contender()?;
            // The first round warms up.
            if round > 0 {
                times.push(ms);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// The middle one, the lower of two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() { f64::NAN } else { values[(values.len() - 1) / 2] }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
        assert!(median(vec![]).is_nan());
    }
}
