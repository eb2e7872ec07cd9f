//! From a `hub:` source to a file in the local cache of the Hugging Face hub.

use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::{Error, Result};

/// The path of a checkpoint, downloaded first if `source` names one on the Hugging Face hub.
///
/// | source | means |
/// |---|---|
/// | `runs/best.safetensors` | that path, returned as it is |
/// | `hub:owner/name` | `model.safetensors` of the repository, or else `pytorch_model.bin` |
/// | `hub:owner/name@revision` | the same at a branch, a tag or a commit |
/// | `hub:owner/name/file.safetensors` | that file; `@revision` goes before the slash |
///
/// A file that is in the cache is not asked for again, so a second call needs no network. The usual
/// variables are honoured: `HF_HOME` (where the cache is), `HF_ENDPOINT` (another hub) and `HF_TOKEN`
/// (access to private repositories). Nothing is retried; a download that broke off is resumed by the
/// next call.
pub fn resolve(source: &str) -> Result<PathBuf> {
    let Some(name) = source.strip_prefix("hub:") else {
        return Ok(PathBuf::from(source));
    };
    let fail = |reason: String| Error::Hub { source_name: source.to_owned(), reason };
    let HubFile { repo, file } = parse(name).map_err(fail)?;
    let candidates = match &file {
        Some(file) => vec![file.as_str()],
        None => DEFAULT_FILES.to_vec(),
    };
    // hf-hub panics if it has nowhere to put its cache.
    if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() {
        return Err(fail("there is no home folder for the cache; set HF_HOME".to_owned()));
    }
    let cache = Cache::from_env().repo(repo.clone());
    if let Some(path) = candidates.iter().find_map(|file| cache.get(file)) {
        return Ok(path);
    }
    let remote =
        connect(repo).map_err(|error| fail(format!("cannot start a download: {error}")))?;
    download_first(&remote, &candidates).map_err(fail)
}

/// What is looked for in a repository, in this order.
const DEFAULT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// What follows `hub:`.
struct HubFile {
    repo: Repo,
    file: Option<String>,
}

fn parse(name: &str) -> std::result::Result<HubFile, String> {
    let expected = "expected `hub:owner/name`, `hub:owner/name@revision` or `hub:owner/name/file`";
    let mut parts = name.splitn(3, '/');
    let (Some(owner), Some(name), file) = (parts.next(), parts.next(), parts.next()) else {
        return Err(expected.to_owned());
    };
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    // The parts go into a URL and into paths of the cache, so `..` or `?` must not get through.
    let segments = [owner, name, revision]
        .into_iter()
        .chain(file.into_iter().flat_map(|file| file.split('/')));
    if let Some(invalid) = segments.into_iter().find(|segment| !is_plain_name(segment)) {
        return Err(format!("`{invalid}` is not a valid name; {expected}"));
    }
    let repo = Repo::with_revision(format!("{owner}/{name}"), RepoType::Model, revision.to_owned());
    Ok(HubFile { repo, file: file.map(str::to_owned) })
}

fn is_plain_name(segment: &str) -> bool {
    let dots_only = segment.bytes().all(|byte| byte == b'.'); // also true of an empty one
    !dots_only
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+=".contains(&byte))
}

fn connect(repo: Repo) -> std::result::Result<ApiRepo, ApiError> {
    let mut builder = ApiBuilder::from_env().with_progress(false); // a library does not print
    // hf-hub reads the token that `hf auth login` stored, but not the variable that overrides it.
    if let Ok(token) = std::env::var("HF_TOKEN")
        && !token.trim().is_empty()
    {
        builder = builder.with_token(Some(token.trim().to_owned()));
    }
    Ok(builder.build()?.repo(repo))
}

/// Downloads the first of `files` that the repository has.
fn download_first(remote: &ApiRepo, files: &[&str]) -> std::result::Result<PathBuf, String> {
    for file in files {
        match remote.download(file) {
            Ok(path) => return Ok(path),
            Err(error) if is_not_found(&error) => continue,
            Err(error) => return Err(explain(&error, &remote.url(file))),
        }
    }
    let urls: Vec<_> = files.iter().map(|file| remote.url(file)).collect();
    let cure =
        "check the spelling, or name a file that the repository lists: `hub:owner/name/file`";
    Err(format!("not found (404): {}; {cure}", urls.join(" and ")))
}

fn is_not_found(error: &ApiError) -> bool {
    matches!(error, ApiError::RequestError(error) if matches!(**error, ureq::Error::StatusCode(404)))
}

/// What failed at `url`, and the cure.
fn explain(error: &ApiError, url: &str) -> String {
    match error {
        ApiError::RequestError(request) => match **request {
            // The hub answers 401, not 404, to a stranger who asks for a repository that is not there.
            ureq::Error::StatusCode(code @ (401 | 403)) => format!(
                "access refused ({code}): {url}; check the spelling, or set HF_TOKEN if the repository is private or gated"
            ),
            ureq::Error::StatusCode(code) => format!("{url} answered {code}; try again later"),
            _ => format!(
                "cannot reach {url}: {error}; check the network and HF_ENDPOINT, or download the file by other means and give its path"
            ),
        },
        ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_) => {
            format!("{url} did not answer like a Hugging Face hub: {error}; check HF_ENDPOINT")
        }
        ApiError::LockAcquisition(lock) => {
            format!("another process is downloading {url}; wait for it (lock: {})", lock.display())
        }
        _ => format!(
            "the download of {url} broke off: {error}; check the space and the permissions of the cache (HF_HOME), then try again"
        ),
    }
}
