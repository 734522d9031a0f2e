"""An export takes seconds: one of each precision for all tests of this folder."""

import pytest

from recjob.inference.export import ExportResult, export_student
from tests.inference.students import FP16, FP32, SIDE, student


@pytest.fixture(scope="session")
def exported_fp32(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_student(student(), tmp_path_factory.mktemp("fp32"), FP32, SIDE)


@pytest.fixture(scope="session")
def exported_fp16(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_student(student(), tmp_path_factory.mktemp("fp16"), FP16, SIDE)
