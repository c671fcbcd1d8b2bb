"""`clearbeam export`: the live pipeline, or one network, as a file that other runtimes take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clearbeam.console import err
from clearbeam.files import check_writable

NAME = "export"


def run(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Shipped weights, or a .safetensors file.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    format: Annotated[
        str,
        typer.Option(
            metavar="onnx|torchscript|int8|int8-weights",
            help="int8 is ONNX that convolves in 8 bits, int8-weights ONNX with weights in 8 bits.",
        ),
    ] = "onnx",
    mics: Annotated[int, typer.Option(metavar="M", help="Microphones of the array.")] = 6,
    part: Annotated[
        str,
        typer.Option(metavar="pipeline|mono|multi|refine", help="All of it, or one network."),
    ] = "pipeline",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="For int8: a data set or a folder of recordings, which fixes the ranges of the "
            "activations. Without it they are found anew in every frame.",
        ),
    ] = None,
) -> None:
    """Export the live enhancement, a frame of 16 ms a call, for other runtimes.

    Spectra of all microphones go in and the talker's spectrum comes out, as real and imaginary
    parts; whatever is remembered is an input and an output too, zero at the start. The file is run
    beside the model on a recording of a simulated room before it gets its name.

    Examples:

        clearbeam export default --out live.onnx

        clearbeam export default --mics 2 --format int8-weights --out small.onnx

        clearbeam export default --mics 4 --format torchscript --out live.pt

        clearbeam export default --part multi --out network.onnx
    """
    if not out.suffix:
        raise ValueError(f"expected a file to write, such as live.onnx, found {out}")
    check_writable(out)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise ImportError(
            "expected ONNX and its runtime for an export: pip install 'clearbeam[export]'"
        ) from None
    from clearbeam.export.export import Job, export
    from clearbeam.export.int8 import calibration_set

    job = Job(model, format, part, mics)
    heard = None
    if calibration is not None:
        if format != "int8":
            raise ValueError(f"expected --calibration with --format int8, found {format}")
        heard = calibration_set(calibration, mics)
    with err.status("") as status:
        done = export(job, out, heard, lambda what: status.update(what))
    typer.echo(f"{out}: {done.n_bytes} bytes")
    typer.echo(
        f"beside the model: SNR {done.agreement.snr_db:.1f} dB, "
        f"largest error {done.agreement.error:.1e} of the peak"
    )
    if done.operators:
        names = ", ".join(f"{name} {n}" for name, n in sorted(done.operators.items()))
        typer.echo(f"operators: {names}")
