#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
use biformer::{classification::ImageClassifierConfig, models::BiFormerConfig};
use burn::tensor::{Device, Distribution, Tensor};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (model, b, t) = (&a[1], a[2].parse::<usize>().unwrap(), a[3].parse::<usize>().unwrap());
    let runs: usize = a.get(4).map_or(30, |x| x.parse().unwrap());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(t).build().unwrap();
    pool.install(|| {
        let d = Device::default();
        let m = ImageClassifierConfig::new(BiFormerConfig::from_name(model).unwrap())
            .init(&d)
            .for_inference();
        let x = Tensor::<4>::random([b, 3, 224, 224], Distribution::Normal(0.0, 1.0), &d);
        let mut ts = vec![];
        for _ in 0..runs {
            let s = std::time::Instant::now();
            let y = m.forward(x.clone());
            std::hint::black_box(y.into_data());
            ts.push(s.elapsed().as_secs_f64() * 1e3);
        }
        ts.sort_by(f64::total_cmp);
        println!("{model} b{b} t{t}: min {:.1} median {:.1} ms", ts[0], ts[ts.len() / 2]);
    });
}
