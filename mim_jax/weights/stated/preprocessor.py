"""What a `preprocessor_config.json` of Hugging Face states: how pixels become numbers."""

from collections.abc import Collection

from mim_jax.weights.stated.statements import Configuration, Reader, Statements
from mim_jax.weights.stated.values import DEVIATION, MEAN, NUMBERS, Kind, read, written

FILE = "preprocessor_config.json"
SWITCHES = ("do_normalize", "do_rescale", "do_resize", "do_center_crop")
PIXELS = 255  # largest value of a pixel; our mean and deviation are of pixels over this


def read_preprocessor(config: Configuration, family: str, settled: Collection[str] = ()) -> Statements:
    """Mean and deviation of pixels in 0..1, so that `(pixel / 255 - mean) / std` is what the file makes of a pixel.

    Without `do_normalize` these are 0 and 1. Another `rescale_factor` than 1/255, or none at all, goes into both.
    Raises InputError for what cannot be read or kept.
    """
    reader = Reader(FILE, family, settled)
    for name in SWITCHES:
        if not isinstance(config.get(name, True), bool | None):
            reader.refuse(name, config[name], "which must be true or false")
    if config.get("offset") or config.get("rescale_offset"):
        reader.refuse("offset", True, "an offset of pixels, which is not supported; state --set mean and --set std")
    factor = _factor(reader, config)
    for ours, theirs, kind, plain in (("mean", "image_mean", MEAN, 0.0), ("std", "image_std", DEVIATION, 1.0)):
        if ours not in settled:
            _put(reader, config, ours, theirs, kind, plain, factor * PIXELS)
    _resizing(reader, config)
    return reader.statements


def _factor(reader: Reader, config: Configuration) -> float:
    """What a pixel of 0..255 is multiplied by."""
    if config.get("do_rescale") is False:
        return 1.0
    factor = config.get("rescale_factor")
    if factor is None or (is_number(factor) and abs(factor * PIXELS - 1) < 1e-6):
        return 1 / PIXELS
    if not is_number(factor) or not 0 < factor < 1e30:
        reader.refuse("rescale_factor", factor, "which must be a number above 0")
    return float(factor)


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _put(reader: Reader, config: Configuration, ours: str, theirs: str, kind: Kind, plain: float, scale: float) -> None:
    """States a mean or a deviation of what pixels from 0 to 1 times `scale` are."""
    if config.get("do_normalize") is False:
        theirs, values = "do_normalize", (plain,)
    elif config.get(theirs) is not None:
        values = read(NUMBERS, config[theirs], theirs, FILE)
    else:
        return
    scaled = kind.read([value / scale for value in values])
    if scaled is None:
        why = f"which for pixels from 0 to 1 must be {kind.words}; if it is another, --set {ours}=NUMBER,NUMBER,NUMBER"
        reader.refuse(theirs, written(values), why)
    reader.put(ours, scaled, theirs)


def _resizing(reader: Reader, config: Configuration) -> None:
    """What is told of the size, which belongs to a run and not to the weights."""
    keys = ("crop_size" if config.get("do_center_crop") else "size", "resample", "crop_pct")
    told = [f"{key}={config[key]}" for key in keys if config.get(key) is not None]
    if told and config.get("do_resize") is not False:
        reader.notes.append(f"{FILE} resizes by {', '.join(map(str, told))}; here the transform of a run does that")
