"""Tell a model's folder from its name on the hub, before anything is loaded."""

from pathlib import Path

from .errors import UserError


def check_model(option: str, model: str) -> None:
    """Refuse a model that is neither a folder nor can be a name of the hub.

    A name of the hub has one slash or none; a path below a folder that exists is meant to be one.

    Raises:
        UserError: naming the option.
    """
    path = Path(model)
    is_path = model.count("/") > 1 or model[0] in "./~" or ("/" in model and Path(path.parts[0]).is_dir())
    if is_path and not path.exists():
        raise UserError(f"{option} {model} does not exist; expected a model's folder, or its name on the hub")
