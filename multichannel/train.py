"""Train a network of the package from scratch: ``python -m multichannel.train --help``.

Every process has one thread (small GRUs gain nothing from more) and its share of each batch; the
gradients are averaged over processes. The recipe is the same on a CPU and on CUDA.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import socket
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from multichannel.cache import CachedClips
from multichannel.data import Clips, shuffled_batches
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.kernels import compile_training_kernels
from multichannel.losses import compressed_spectral, negative_si_snr
from multichannel.memory import keep_freed_memory
from multichannel.stft import STFT
from multichannel.weights import save_gtcrn

_CLIP_NORM = 3.0
_EMA = 0.998


def forward(net: nn.Module, stft: STFT, batch: dict[str, Tensor]) -> Tensor:
    """Estimate ``(batch, samples)``: the masked first spectrum of the batch, back in time."""
    X = batch["spectra"] if "spectra" in batch else stft(batch["mixture"].unsqueeze(1))
    mask, _ = net(X, batch.get("cues"))
    return stft.inverse(mask * X[:, 0], batch["early"].shape[-1])


def loss_of(estimate: Tensor, reference: Tensor, stft: STFT) -> Tensor:
    return compressed_spectral(estimate, reference, stft) + negative_si_snr(estimate, reference)


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def validate(
    net: GTCRN, stft: STFT, clips: Clips | CachedClips, device: torch.device
) -> dict[str, float]:
    """Mean loss and SI-SNR in dB over the valid clips."""
    net.eval()
    losses, snrs = [], []
    for indices in np.array_split(np.arange(len(clips)), max(1, len(clips) // 16)):
        batch = {k: v.to(device) for k, v in clips.batch(indices).items()}
        estimate = forward(net, stft, batch)
        losses += [loss_of(estimate, batch["early"], stft).item()] * len(indices)
        snrs += [-10 * negative_si_snr(estimate, batch["early"]).item()] * len(indices)
    return {"valid_loss": float(np.mean(losses)), "valid_si_snr_db": float(np.mean(snrs))}


def train(rank: int, args: argparse.Namespace) -> None:
    """One process of a training run; process 0 validates, logs and writes checkpoints."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(args.seed)
    device = torch.device(args.device, rank) if args.device == "cuda" else torch.device("cpu")
    if args.device == "cpu":
        prepare_cpu(rank)
    if args.processes > 1:
        backend = "nccl" if args.device == "cuda" else "gloo"
        address = f"tcp://127.0.0.1:{args.port}"
        dist.init_process_group(backend, address, rank=rank, world_size=args.processes)
    clips = load_clips(args.data, args)
    net = GTCRN(GTCRNConfig(**json.loads(args.network))).to(device)
    if args.init:
        warm_start(net, args.init)
    run(rank, args, net, clips, device)


def prepare_cpu(rank: int) -> None:
    """Use the compiled layers where they can be built; without them training is slower, no more."""
    try:
        compile_training_kernels()
    except (RuntimeError, OSError, ImportError) as error:
        if rank == 0:
            print(json.dumps({"compiled_layers": False, "reason": str(error)[:200]}), flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(
    rank: int,
    args: argparse.Namespace,
    net: GTCRN,
    clips: Clips | CachedClips,
    device: torch.device,
) -> None:
    stft = STFT().to(device)
    average = copy.deepcopy(net)
    parallel = nn.parallel.DistributedDataParallel(net) if args.processes > 1 else net
    learned = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=args.lr)
    valid = load_clips(args.valid, args) if rank == 0 else None
    step, started = 0, time.monotonic()
    while step < args.steps:
        epoch = step // max(1, len(clips) // (args.batch * args.processes))
        seed = args.seed * 10_000 + epoch
        for indices in shuffled_batches(len(clips), args.batch, seed, rank, args.processes):
            batch = {k: v.to(device) for k, v in clips.batch(indices).items()}
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, args.steps, args.lr, args.warmup)
            parallel.train()
            loss = loss_of(forward(parallel, stft, batch), batch["early"], stft)
            optimiser.zero_grad()
            loss.backward()
            # the gradients are those of all processes, so all of them skip a broken step together
            if torch.isfinite(nn.utils.clip_grad_norm_(learned, _CLIP_NORM)):
                optimiser.step()
            follow(average, net, min(_EMA, (1 + step) / (10 + step)))
            step += 1
            if rank == 0 and valid is not None and (step % args.every == 0 or step == args.steps):
                scores = validate(average, stft, valid, device)
                report(args, step, loss.item(), scores, started)
                save_gtcrn(average, args.out / "last.safetensors", step=step, **scores)
            if step == args.steps:
                break


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the trained ones; counters and statistics are copied."""
    trained = net.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(trained[name], 1 - keep)
        else:
            value.copy_(trained[name])


def report(
    args: argparse.Namespace, step: int, loss: float, scores: dict[str, float], started: float
) -> None:
    seconds = time.monotonic() - started
    speed = step * args.batch * args.processes * args.seconds / seconds
    line = {"step": step, "loss": loss, **scores, "seconds": seconds, "audio_s_per_s": speed}
    print(json.dumps({k: round(v, 4) for k, v in line.items()}), flush=True)
    with (args.out / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def warm_start(net: GTCRN, path: Path) -> None:
    """Begin with the weights of a network that has fewer inputs; the new inputs start at zero."""
    from multichannel.weights import load_gtcrn

    tensors = load_gtcrn(path).state_dict()
    first = "encoder.en_convs.0.conv.weight"
    weight = torch.zeros_like(net.state_dict()[first], device="cpu")
    weight[:, : tensors[first].shape[1]] = tensors[first]
    net.load_state_dict({**tensors, first: weight})


def load_clips(path: Path, args: argparse.Namespace) -> Clips | CachedClips:
    """A cache of front-end outputs, or the first mic of a data set."""
    if (path / "spectra.npy").is_file():
        return CachedClips(path)
    return Clips.of_first_mic(path, round(args.seconds * 16000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="data set of `clearbeam simulate`, or a cache"
    )
    parser.add_argument("--valid", type=Path, required=True, help="the same of the valid split")
    parser.add_argument("--out", type=Path, required=True, help="folder of log and checkpoints")
    parser.add_argument("--network", default="{}", help="GTCRNConfig as JSON")
    parser.add_argument("--init", type=Path, help="weights to start from (fewer inputs allowed)")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8, help="clips a process and step")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps of rising learning rate")
    parser.add_argument("--every", type=int, default=250, help="steps between validations")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.port = free_port()
    if args.processes > 1:
        mp.spawn(train, (args,), nprocs=args.processes)
    else:
        train(0, args)


if __name__ == "__main__":
    main()
