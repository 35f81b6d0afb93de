"""Settings of a distillation: which levels they choose, and which are refused."""

from __future__ import annotations

import pytest
from trainings import train
from ultralytics.models.yolo.classify import ClassificationTrainer

from coco1k_kd import UserError
from coco1k_kd.distill.settings import Distillation

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_levels_are_those_of_equal_stride():
    settings = Distillation("")
    assert settings.shared_levels([8, 16, 32], [4, 8, 16, 32]) == [(0, 1), (1, 2), (2, 3)]
    assert Distillation("", levels="16").shared_levels([8, 16, 32], [16, 32, 64]) == [(1, 0)]
    with pytest.raises(UserError, match="no level in common: the strides of the teacher's neck are 64, of the student"):
        settings.shared_levels([8, 16, 32], [64])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_loss": "no_such_loss"}, "unknown loss 'no_such_loss'.*choose of .*cwd.*mgd"),
        ({"distillation_weight": -1}, "must be a number >= 0"),
        ({"distillation_weight": "much"}, "must be a number >= 0"),
        ({"distillation_schedule": "step"}, "unknown schedule"),
        ({"distillation_tau": 0}, "distillation_tau"),
        ({"distillation_loss": "mgd", "distillation_mask_ratio": 1.0}, "distillation_mask_ratio"),
        ({"distillation_levels": "16,x"}, "distillation_levels='16,x' must be strides"),
        ({"distillation_levels": [16, 16]}, "must be strides"),
        ({"distillation_levels": 4}, "no stride 4, only"),
        ({"distillation_loss": "mgd", "distillation_tau": 2}, "distillation_tau is not a setting of the loss mgd"),
        ({"distillation_weight": (1, 2)}, "one number, or one for each of cwd"),
        ({"distillation_loss": "cwd+response", "distillation_weight": "1,2,3"}, "for each of cwd, response"),
        ({"distillation_loss": "response+response"}, "names response twice"),
        ({"distillation_normalise": "batch"}, "unknown normalise 'batch'.*channels, none"),
        ({"distillation_aligner": "ridge"}, "unknown aligner 'ridge'.*fitted, random"),
        ({"distillation_levels": 8, "freeze": 17}, "none of the distilled levels"),
        ({"distill_model": "yolo11n.yaml"}, "choose one"),
        ({"trainer": ClassificationTrainer}, "does not train the task detect"),
        ({"dis": 6.0}, "use distillation_weight="),
        ({"distillation_layers": ["16", "19"]}, "distillation_levels= chooses"),
        ({"distillation_temperature": 2}, "distillation_temperature is not known: choose of loss.*tau"),
        ({"freeze": 23}, "nothing to distil into"),
    ],
)
def test_unfit_settings_are_refused(options, message, subset, teacher_file, tmp_path):
    with pytest.raises(UserError, match=message):
        train(subset, tmp_path, teacher=teacher_file, **options)
