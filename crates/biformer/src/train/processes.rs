//! What the processes of a run have in common: their start, and the sums of each step.

use std::hash::{DefaultHasher, Hash, Hasher};

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::engine::Run;
use super::objective::Objective;
use super::state::State;
use super::{Checkpoint, NamedGradients, Recipe};
use crate::Result;
use crate::data::{Loaded, Shard};
use crate::distributed::World;
use crate::layers::BatchPart;
use crate::weights::{KeyStyle, map_flat, visit_flat};

/// Numbers that are added up in one call, 16 MB: more calls wait for each other, and fewer need
/// more memory.
const BUCKET: usize = 4 << 20;

/// Adds up the gradients of all processes.
pub(super) fn sum_gradients(gradients: &mut NamedGradients, world: &World) {
    let gradients: Vec<&mut Tensor<1>> = gradients.iter_mut().map(|(_, tensor)| tensor).collect();
    sum(gradients, world);
}

/// The running statistics of batch norms as the mean over all processes, of which this one has
/// the weight `share`: each has seen its own pictures, and all must go on with the same.
pub(super) fn average_statistics<M: Module>(
    module: &M,
    style: KeyStyle,
    share: f64,
    world: &World,
) -> M {
    let module = module.valid(); // its statistics are not those that the next pass would change
    let mut found = Vec::new();
    visit_flat(&module, style, |key, values| {
        if is_statistic(&key) {
            found.push(values * share);
        }
    });
    sum(found.iter_mut().collect(), world);
    let mut means = found.into_iter(); // in the order of the module
    let replace = |key: &str, _| is_statistic(key).then(|| means.next()).flatten();
    map_flat(module, style, replace).train()
}

/// What layers must know of a training batch that `world` shares, of `readable` pictures in all;
/// `None` in one process alone.
pub(super) fn part<S>(
    batch: &Loaded<S>,
    recipe: &Recipe,
    readable: usize,
    world: &World,
) -> Option<BatchPart> {
    let sync_bn = world.reducer()?;
    let sync_bn = recipe.sync_bn.then_some(sync_bn);
    Some(match batch.samples.len() {
        0 => BatchPart { places: vec![0], of: 1, readable, is_empty: true, sync_bn },
        _ => {
            let (places, of) = places(batch, world.shard());
            BatchPart { places, of, readable, is_empty: false, sync_bn }
        }
    })
}

/// The places of the pictures in the whole batch, and how many that has. A picture that could not
/// be read leaves no gap: the others move up, as if all shards lacked as many.
pub(super) fn places<S>(batch: &Loaded<S>, shard: Shard) -> (Vec<usize>, usize) {
    let of = match batch.skipped.len() {
        0 => batch.of,
        _ => batch.samples.len() * shard.size,
    };
    (shard.places(of), of)
}

/// Makes sure that all processes start alike.
///
/// # Errors
/// [`Error::Processes`](crate::Error::Processes) with what they have not in common.
pub(super) fn agree_on_start<T: Objective>(run: &Run<'_, T>, state: &State<T>) -> Result<()> {
    let Run { world, recipe, objective, .. } = run;
    if world.size() == 1 {
        return Ok(()); // without work
    }
    // Paths may differ from host to host.
    let recipe = Recipe {
        data: None,
        initial_checkpoint: None,
        token_label_data: None,
        dataset: None,
        ..(*recipe).clone()
    };
    let Checkpoint { progress, model, .. } = state.checkpoint();
    let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let weights: Vec<_> = model.into_values().map(|tensor| bits(tensor.data)).collect();
    world.agree("recipe", hash(&format!("{recipe:?}")))?;
    world.agree("files and classes in their data folders", objective.fingerprint())?;
    world.agree("place to go on from", hash(&(progress.epoch, progress.step)))?;
    world.agree("weights to start from", hash(&weights))
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Adds up tensors over all processes, some at a time.
fn sum(tensors: Vec<&mut Tensor<1>>, world: &World) {
    let mut bucket: Vec<&mut Tensor<1>> = Vec::new();
    let mut length = 0;
    for tensor in tensors {
        length += tensor.dims()[0];
        bucket.push(tensor);
        if length >= BUCKET {
            sum_bucket(std::mem::take(&mut bucket), world);
            length = 0;
        }
    }
    sum_bucket(bucket, world);
}

fn sum_bucket(tensors: Vec<&mut Tensor<1>>, world: &World) {
    let mut numbers: Vec<f32> = Vec::new();
    for tensor in &tensors {
        let values = tensor.to_data_as::<f32>();
        numbers.extend(values.try_into_vec::<f32>().expect("float32 values"));
    }
    world.sum_f32(&mut numbers);
    let mut rest = numbers.as_slice();
    for tensor in tensors {
        let (own, others) = rest.split_at(tensor.dims()[0]);
        rest = others;
        let data = TensorData::new(own.to_vec(), [own.len()]);
        *tensor = Tensor::from_data(data, &tensor.device());
    }
}

/// Whether this is the key of a running statistic.
fn is_statistic(key: &str) -> bool {
    key.ends_with(".running_mean") || key.ends_with(".running_var")
}
