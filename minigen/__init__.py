"""minigen: five university lectures on generative models, as software."""

from pathlib import Path

_root = Path(__file__).resolve().parent.parent
if (_root / "kernels" / "conv2d.py").exists():  # a checkout: kernels/ stands beside minigen/
    __path__.append(str(_root))
