"Grayscale photo in, colour photo out: `load_model`, `colorize`, `temperature`."

# By hand, not exported. Names load what they need on first use: `import colorize` is instant.
from importlib import import_module

_names = dict(load_model='weights', Colorizer='infer', colorize='infer', temperature='temperature')
__all__ = list(_names)


def __getattr__(name):
    if name in _names:
        return getattr(import_module(f'{__name__}.{_names[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *__all__])
