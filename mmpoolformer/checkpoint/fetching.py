"""Where weights come from: names, addresses and repositories become local files."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path

import torch
from mmengine.dist import barrier, get_local_rank

from mmpoolformer.checkpoint.errors import CheckpointError
from mmpoolformer.checkpoint.files import read_checkpoint, whole_or_none
from mmpoolformer.zoo.archs import ARCHS, Weights

SCHEME = 'metaformer://'
HUB_SCHEME = 'hf-hub:'


def weights_of(name: str) -> Weights:
    """Return the table's entry for ``metaformer://<model>[.<tag>]``.

    Raises:
        CheckpointError: If there is none; the message lists those there are.
    """
    model, _, tag = name.removeprefix(SCHEME).partition('.')
    released = ARCHS[model].weights if model in ARCHS else {}
    if model not in ARCHS:
        known = ', '.join(key for key, arch in ARCHS.items() if arch.weights)
        raise CheckpointError(f'{name} is unknown; after {SCHEME} may come {known}')
    if tag and tag not in released:
        known = ', '.join(f'{SCHEME}{model}.{key}' for key in released)
        raise CheckpointError(f'{name} is unknown; known weights of {model}: {known}')
    return released[tag] if tag else next(iter(released.values()))


def fetch(source: str | Path, folder: str | Path | None = None) -> Path:
    """Return the local file of ``source``, downloading names and addresses once.

    Downloads go to torch.hub's cache (``TORCH_HOME``), are complete or absent, and are done by one
    process per machine. What is in the cache, or in ``folder``, needs no network.

    Args:
        source: A path; an address; ``metaformer://<model>[.<tag>]``, a released checkpoint of the
            table; or ``hf-hub:<owner>/<repository>``, a repository of the Hugging Face hub such as
            ``hf-hub:timm/poolformer_s12.sail_in1k``, which needs huggingface_hub.
        folder: Where to look for the file first, under the last part of its address.

    Raises:
        CheckpointError: If the name is unknown, or the file is neither cached nor reachable.
    """
    source = str(source)
    if source.startswith(HUB_SCHEME):
        return _fetch_from_hub(source, folder)
    address = weights_of(source).url if source.startswith(SCHEME) else source
    if not address.startswith(('http://', 'https://')):
        return Path(address).expanduser()
    name = address.rsplit('/', 1)[-1]
    if folder is not None and (path := Path(folder).expanduser() / name).is_file():
        return path
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    try:
        if get_local_rank() == 0 and not path.is_file():
            _download(address, path)
    except (OSError, HTTPException, CheckpointError) as error:
        raise CheckpointError(
            f'{source} could not be downloaded ({error}). Without network: fetch {address} '
            f'elsewhere, put it at {path}, and run this again; or train from scratch with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from None
    finally:
        barrier()
    return path


def _download(address: str, path: Path) -> None:
    """Download a checkpoint; ``path`` is complete or absent, even if the connection breaks."""
    with whole_or_none(path) as part:
        torch.hub.download_url_to_file(address, str(part))
        # torch.hub takes a connection that broke for the end of the file, and a login page for it.
        read_checkpoint(part)


def _fetch_from_hub(source: str, folder: str | Path | None) -> Path:
    """Return the weights of a Hugging Face repository, from its own cache where it has them."""
    repository = source.removeprefix(HUB_SCHEME)
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise CheckpointError(
            f'{source} needs huggingface_hub: pip install huggingface_hub'
        ) from None
    names = ('model.safetensors', 'pytorch_model.bin')
    if folder is not None:
        for name in names:
            if (path := Path(folder).expanduser() / repository / name).is_file():
                return path
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # Network, rights, a full disk: each has its own class there.
            # Without network the hub's client says that the file is not in the cache.
            online = not isinstance(error, LocalEntryNotFoundError)
            if online and isinstance(error, EntryNotFoundError):
                continue
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f'{source} could not be downloaded ({reason}). Without network: fetch '
                f'https://huggingface.co/{repository}/resolve/main/{names[0]} elsewhere and name '
                'that file instead'
            ) from None
    raise CheckpointError(f'{source} holds none of {", ".join(names)}')
