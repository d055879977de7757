"""Compose a configuration, check all of it, run its stage. ``python run.py --help`` lists the choices."""

import sys

import hydra
from omegaconf import DictConfig

from vd100k import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    return launch.run(cfg)


if __name__ == "__main__":
    sys.exit(launch.main(main))
