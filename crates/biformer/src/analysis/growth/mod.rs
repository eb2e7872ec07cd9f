//! How the time of attention grows with the picture: bi-level routing attention beside full attention,
//! each on the map of stage 1, the largest one.
//!
//! Full attention is measured up to [`FULL_LIMIT`] tokens, where a run takes a second, and extrapolated
//! beyond; each point says which it is.

mod chart;
mod fit;

pub use chart::draw_growth;
pub use fit::Exponents;

use std::fmt;
use std::sync::atomic::AtomicBool;

use biformer_ops::is_cpu;
use biformer_ops::profile::Class;

use super::benchmark::rule;
use super::{
    Benchmark, LayerCost, best_n_win, bra_costs, full_attention, full_attention_costs, operator,
};
use crate::attention::{BraConfig, FullAttentionConfig};
use crate::{Error, Result};

/// Tokens up to which full attention is measured: those of a picture of 512 × 512 pixels.
pub const FULL_LIMIT: usize = 128 * 128;

/// Pixels a side that make a token of stage 1.
const STRIDE: usize = 4;
/// Weights that a device without a fused operator may have in memory: 1 GiB.
const MOST_WEIGHTS: usize = 1 << 28;
/// What [`operator`] takes.
const MOST_WINDOWS: usize = 128;

/// What is to grow, and how far. By default squares of 128 to 2048 pixels, and the attention that
/// the paper's detector has at stage 1, but for its S.
#[derive(Clone, Debug)]
pub struct GrowthOptions {
    /// Height and width of the pictures in pixels, 32 to 2048; no two with as many tokens.
    pub sizes: Vec<[usize; 2]>,
    /// Channels of the map.
    pub dim: usize,
    /// Heads.
    pub num_heads: usize,
    /// Routed regions, the paper's k.
    pub topk: usize,
    /// Regions a side, the paper's S; if not given, that of Eq. 9 for each map ([`best_n_win`]).
    pub n_win: Option<usize>,
}

impl Default for GrowthOptions {
    fn default() -> Self {
        let sizes = [128, 192, 256, 384, 512, 768, 1024, 1536, 2048].map(|side| [side; 2]);
        Self { sizes: sizes.to_vec(), dim: 64, num_heads: 2, topk: 4, n_win: None }
    }
}

/// The attentions that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Growing {
    Bra,
    Full,
}

/// An attention at one size.
#[derive(Clone, Debug)]
pub struct GrowthPoint {
    /// Which one.
    pub attention: Growing,
    /// Height and width of the picture in pixels.
    pub img_size: [usize; 2],
    /// Tokens of the map.
    pub tokens: usize,
    /// Regions a side, of bi-level routing attention.
    pub n_win: Option<usize>,
    /// The fastest run of the whole attention, with projections and LCE: other programs only slow it down.
    pub ms: f64,
    /// Of that, routing and attention (and the LCE that bi-level routing attention computes with
    /// it); known only where it is measured, on the CPU.
    pub core_ms: Option<f64>,
    /// Multiply-accumulates of the whole attention.
    pub macs: usize,
    /// Of those, of the operators of `core_ms`.
    pub core_macs: usize,
    /// Whether the time comes from the exponent and not from runs.
    pub extrapolated: bool,
}

/// What [`growth`] found.
#[derive(Clone, Debug)]
pub struct Growth {
    /// By attention, then by tokens.
    pub points: Vec<GrowthPoint>,
    /// By attention.
    pub exponents: Vec<Exponents>,
}

/// Measures both attentions at all sizes and tells each point as it is found; `None` if `stop` was
/// set. Of `options`, batch size, threads, runs, precision and device count.
///
/// Memory: on the CPU, about six maps of the largest size.
///
/// # Errors
/// [`Error::Option`] if an option is out of its range, or the sizes are too few to fit.
pub fn growth(
    growing: &GrowthOptions,
    options: &Benchmark,
    stop: &AtomicBool,
    mut found: impl FnMut(&GrowthPoint),
) -> Result<Option<Growth>> {
    let maps = growing.maps()?;
    let mut growth = Growth { points: Vec::new(), exponents: Vec::new() };
    let mut measurable = Vec::new();
    for attention in [Growing::Bra, Growing::Full] {
        let is_measured = |map: &&Map| attention.is_measured(map.tokens(), growing, options);
        let count = maps.iter().filter(is_measured).count();
        if count < 2 {
            let reason = format!("two sizes at least must be small enough to measure {attention}");
            return Err(Error::option("img_size", reason));
        }
        measurable.push((attention, count));
    }
    for (attention, measurable) in measurable {
        let mut points = Vec::new();
        for map in &maps[..measurable] {
            let Some(point) = attention.measure(map, growing, options, stop)? else {
                return Ok(None);
            };
            found(&point);
            points.push(point);
        }
        let exponents = Exponents::fit(attention, &points);
        let last = points[measurable - 1].clone();
        for map in &maps[measurable..] {
            let point = exponents.extrapolate(&last, attention.point(map, growing, options));
            found(&point);
            points.push(point);
        }
        growth.points.extend(points);
        growth.exponents.push(exponents);
    }
    Ok(Some(growth))
}

/// Height and width of a picture in pixels, and of its map in tokens.
struct Map {
    img_size: [usize; 2],
    size: [usize; 2],
}

impl Map {
    fn tokens(&self) -> usize {
        self.size.iter().product()
    }
}

impl GrowthOptions {
    /// By tokens.
    fn maps(&self) -> Result<Vec<Map>> {
        let map = |&img_size: &[usize; 2]| {
            rule("img_size", img_size, |side| (32..=2048).contains(&side), "32 to 2048 pixels")?;
            Ok(Map { img_size, size: img_size.map(|side| side.div_ceil(STRIDE)) })
        };
        let mut maps: Vec<Map> = self.sizes.iter().map(map).collect::<Result<_>>()?;
        maps.sort_by_key(Map::tokens);
        match maps.windows(2).find(|pair| pair[0].tokens() == pair[1].tokens()) {
            Some(pair) => {
                let reason = format!("two of the sizes have {} tokens", pair[0].tokens());
                Err(Error::option("img_size", reason))
            }
            None => Ok(maps),
        }
    }

    fn bra(&self, map: &Map) -> BraConfig {
        let n_win = self.n_win.unwrap_or_else(|| best_n_win(map.size, self.topk).min(MOST_WINDOWS));
        BraConfig::new(self.dim, self.num_heads, n_win, self.topk)
    }

    fn full(&self) -> FullAttentionConfig {
        FullAttentionConfig::new(self.dim).with_num_heads(self.num_heads)
    }
}

impl Growing {
    fn is_measured(self, tokens: usize, growing: &GrowthOptions, options: &Benchmark) -> bool {
        let weights = options.batch_size * growing.num_heads * tokens * tokens;
        let fits = is_cpu(&options.device) || weights <= MOST_WEIGHTS;
        self == Self::Bra || (tokens <= FULL_LIMIT && fits)
    }

    fn measure(
        self,
        map: &Map,
        growing: &GrowthOptions,
        options: &Benchmark,
        stop: &AtomicBool,
    ) -> Result<Option<GrowthPoint>> {
        let profile = is_cpu(&options.device);
        let here = Benchmark { img_size: map.size, profile, ..options.clone() };
        let measured = match self {
            Self::Bra => operator(&growing.bra(map), &here, stop)?,
            Self::Full => full_attention(&growing.full(), &here, stop)?,
        };
        let Some(measured) = measured else { return Ok(None) };
        let ms = measured.latency.min_ms;
        let core = measured.profile.iter().filter(|row| self.is_core(row.class));
        let share = core.map(|row| row.share).sum::<f64>();
        let point = self.point(map, growing, options);
        Ok(Some(GrowthPoint { ms, core_ms: profile.then_some(share * ms), ..point }))
    }

    /// All but the times.
    fn point(self, map: &Map, growing: &GrowthOptions, options: &Benchmark) -> GrowthPoint {
        let (device, bra) = (&options.device, growing.bra(map));
        let costs = match self {
            Self::Bra => bra_costs(&bra.init(device), map.size),
            Self::Full => full_attention_costs(&growing.full().init(device), map.size),
        };
        let macs = |counts: &dyn Fn(&LayerCost) -> bool| {
            costs.iter().filter(|layer| counts(layer)).map(|layer| layer.macs).sum()
        };
        GrowthPoint {
            attention: self,
            img_size: map.img_size,
            tokens: map.tokens(),
            n_win: (self == Self::Bra).then_some(bra.n_win),
            ms: 0.0,
            core_ms: None,
            macs: macs(&|_| true),
            core_macs: macs(&|layer| self.is_core(layer.class)),
            extrapolated: false,
        }
    }

    fn is_core(self, class: Class) -> bool {
        match self {
            Self::Bra => matches!(class, Class::Routing | Class::RoutedAttention),
            Self::Full => class == Class::GlobalAttention,
        }
    }
}

impl fmt::Display for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bra => "bra",
            Self::Full => "full",
        })
    }
}
