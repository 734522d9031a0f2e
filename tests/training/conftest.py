"""One trained teacher for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recjob.settings import Settings
from recjob.training.data import TrainingData
from recjob.training.fit import TrainedModel
from recjob.training.teacher import train_teacher
from tests.training.colours import colour_data, tiny_settings


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in the same order every time; the threads of other tests stay as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return tiny_settings()


@pytest.fixture(scope="session")
def data(settings: Settings) -> TrainingData:
    return colour_data(settings)


@pytest.fixture(scope="session")
def trained_teacher(data: TrainingData, settings: Settings) -> TrainedModel:
    return train_teacher(data, settings)
