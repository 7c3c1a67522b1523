"""Metadata and requirements come from settings.ini; the shipped weights travel as
`colorize.trained_model`."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini')
cfg = ini['DEFAULT']


def lines(key):
    return cfg[key].split('\n')[1:]


extras = [key for key in cfg if key.endswith('_requirements')]
setup(
    name=cfg['dist_name'],
    version=cfg['version'],
    description=cfg['description'],
    author=cfg['author'],
    license=cfg['license'],
    python_requires='>=' + cfg['min_python'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    packages=['colorize', 'colorize.trained_model'],
    package_dir={'colorize.trained_model': 'trained_model'},
    package_data={
        'colorize': ['notebook.html.j2', 'report.html.j2', 'report.css'],
        'colorize.trained_model': ['model_color.onnx', 'model_color.pth', 'README.md'],
    },
    install_requires=lines('requirements'),
    extras_require={key.removesuffix('_requirements'): lines(key) for key in extras},
    entry_points={'console_scripts': lines('console_scripts')},
)
