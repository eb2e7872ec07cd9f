//! State dict ⇄ module, strict both ways.

use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::{KeyStyle, StateDict, StateTensor};

/// How a state dict fails to fit a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyMismatch {
    /// Keys of the module that the state dict lacks.
    pub missing: Vec<String>,
    /// Keys of the state dict that the module has no place for.
    pub unexpected: Vec<String>,
    /// Keys of both with the shape of the module and that of the state dict.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl KeyMismatch {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl fmt::Display for KeyMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |keys: &[String]| {
            let shown: Vec<_> = keys.iter().take(4).map(|key| format!("`{key}`")).collect();
            let more = if keys.len() > shown.len() { ", …" } else { "" };
            format!("{}{more}", shown.join(", "))
        };
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("{} keys missing ({})", self.missing.len(), list(&self.missing)));
        }
        if !self.unexpected.is_empty() {
            let unexpected = list(&self.unexpected);
            parts.push(format!("{} keys unexpected ({unexpected})", self.unexpected.len()));
        }
        if let Some((key, expected, found)) = self.shapes.first() {
            parts.push(format!(
                "{} tensors of another shape (`{key}`: expected {expected:?}, found {found:?})",
                self.shapes.len()
            ));
        }
        f.write_str(&parts.join("; "))
    }
}

/// The module with all weights replaced by those of `state_dict`.
///
/// # Errors
/// What is missing, unexpected or of another shape; then no module comes back.
pub fn load_state_dict<M: Module>(
    module: M,
    state_dict: StateDict,
    style: KeyStyle,
) -> Result<M, KeyMismatch> {
    let mut loader = Loader { names: Names::new(style), state_dict, mismatch: Default::default() };
    let module = module.map(&mut loader);
    let mut mismatch = loader.mismatch;
    mismatch.unexpected.extend(loader.state_dict.into_keys());
    if mismatch.is_empty() { Ok(module) } else { Err(mismatch) }
}

/// All weights of the module under official names and in PyTorch's layout.
///
/// Running statistics that a training thread has not yet published are not seen: take the
/// state dict of `module.valid()`.
pub fn state_dict<M: Module>(module: &M, style: KeyStyle) -> StateDict {
    let mut state_dict = StateDict::new();
    visit_weights(module, style, |key, shape, values| {
        state_dict.insert(key, StateTensor { shape, data: values() });
    });
    state_dict
}

/// Official key and shape of all weights of the module, without initialising them.
pub fn keys_and_shapes<M: Module>(module: &M, style: KeyStyle) -> Vec<(String, Vec<usize>)> {
    let mut keys = Vec::new();
    visit_weights(module, style, |key, shape, _| keys.push((key, shape)));
    keys
}

/// Calls `visit` with official key and shape of each weight, and a way to its values.
fn visit_weights<M: Module>(
    module: &M,
    style: KeyStyle,
    visit: impl FnMut(String, Vec<usize>, &dyn Fn() -> Vec<f32>),
) {
    module.visit(&mut Visitor { names: Names::new(style), visit });
}

/// What Burn calls `ImageClassifier`.
const CLASSIFIER: &str = "Struct:ImageClassifier";

/// Where a visitor or mapper stands in the module.
pub(crate) struct Names {
    style: KeyStyle,
    path: Vec<String>,
    containers: Vec<String>,
}

impl Names {
    pub(crate) fn new(style: KeyStyle) -> Self {
        Self { style, path: Vec::new(), containers: Vec::new() }
    }

    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    /// Official key of the parameter that is visited.
    pub(crate) fn key(&self) -> String {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        // The official classifier is the backbone itself, with a head.
        let prefix = if self.containers[0] == CLASSIFIER { "backbone" } else { "" };
        self.style.key(path.strip_prefix(&[prefix]).unwrap_or(&path))
    }

    /// Burn's linear weights are `[d_input, d_output]`, PyTorch's `[d_output, d_input]`.
    fn is_linear_weight(&self) -> bool {
        let container = self.containers.last().map(String::as_str);
        let name = self.path.last().map(String::as_str);
        container == Some("Struct:Linear") && name == Some("weight")
    }

    /// Shape in PyTorch's layout of the parameter that is visited.
    fn official_shape(&self, shape: &[usize], key: &str) -> Vec<usize> {
        match (self.is_linear_weight(), shape) {
            (true, &[d_input, d_output]) if self.style.is_pointwise_conv(key) => {
                vec![d_output, d_input, 1, 1]
            }
            (true, &[d_input, d_output]) => vec![d_output, d_input],
            _ => shape.to_vec(),
        }
    }
}

struct Loader {
    names: Names,
    state_dict: StateDict,
    mismatch: KeyMismatch,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = self.names.key();
        let shape = param.lazy_shape().to_vec();
        let expected = self.names.official_shape(&shape, &key);
        let Some(tensor) = self.state_dict.remove(&key) else {
            self.mismatch.missing.push(key);
            return param;
        };
        if tensor.shape != expected {
            self.mismatch.shapes.push((key, expected, tensor.shape));
            return param;
        }
        let data = match self.names.is_linear_weight() {
            true => transpose(&tensor.data, shape[1]),
            false => tensor.data,
        };
        let tensor = Tensor::from_data(TensorData::new(data, shape), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

struct Visitor<F> {
    names: Names,
    visit: F,
}

impl<F: FnMut(String, Vec<usize>, &dyn Fn() -> Vec<f32>)> ModuleVisitor for Visitor<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let key = self.names.key();
        let shape = param.lazy_shape().to_vec();
        let is_linear_weight = self.names.is_linear_weight();
        let values = || {
            let data = param.val().into_data_as::<f32>().try_into_vec().expect("float32 data");
            if is_linear_weight { transpose(&data, shape[0]) } else { data }
        };
        let official_shape = self.names.official_shape(&shape, &key);
        (self.visit)(key, official_shape, &values);
    }
}

/// The transpose of a row-major matrix of `rows` rows.
fn transpose(data: &[f32], rows: usize) -> Vec<f32> {
    let cols = data.len() / rows;
    (0..cols).flat_map(|col| (0..rows).map(move |row| data[row * cols + col])).collect()
}
