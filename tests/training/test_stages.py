import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from fgseg.encoders.checkpoint import find_checkpoint
from fgseg.encoders.encoder import ClipEncoder
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.regions.pooling import box_features
from fgseg.training import samples
from fgseg.training.distributed import SINGLE, ProcessGroup
from fgseg.training.initialise import initial_model
from fgseg.training.options import TrainingOptions
from fgseg.training.records import Record, RegionText
from fgseg.training.samples import FALSE_CAPTIONS, Batches, Preparation, make_batch, step_records
from fgseg.training.scene_records import SceneRecords
from fgseg.training.stages import batch_features, checkpoint_blocks, pool_boxes, step_gradients
from tests.training.test_losses import looped_hard_loss, looped_pair_loss


class Listed:
    """A `Source` of given records, all with the same picture."""

    bad = ()

    def __init__(self, records):
        self.records, self.found, self.identity = records, len(records), "listed"
        self.image = np.random.RandomState(4).randint(0, 256, (40, 60, 3), np.uint8)

    def __len__(self):
        return len(self.records)

    def name(self, index):
        return f"record {index}"

    def sample(self, index):
        return self.records[index], self.image


def preparation(folder, source, *, seed=0):
    config = load_encoder(folder, dtype="float32", device="cpu").model.config
    return Preparation(source, Tokenizer(find_checkpoint(folder).folder), config, TrainingOptions(seed=seed))


def region(box=(0.0, 0.0, 1.0, 1.0), short="red circle", long="there is a red circle", negatives=()):
    return RegionText(box, short, long, negatives)


def record(regions=(), caption="there is a blue star", short="a blue star"):
    return Record("a.png", caption, short, tuple(regions))


def model_of(folder):
    return initial_model(find_checkpoint(folder))


def trained_scenes(folder, *, count=8, size=4, stage=2, checkpointed=False, dtype=torch.float32):
    """Losses and gradients of a step on `count` scenes in micro-batches of `size`."""
    model = model_of(folder)
    if checkpointed:
        checkpoint_blocks(model)
    how = preparation(folder, SceneRecords(count, side=32))
    batches = [make_batch(how, range(first, first + size), 0) for first in range(0, count, size)]
    losses = step_gradients(model, batches, stage=stage, dtype=dtype)
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}


# --- captions


def test_only_short_captions_have_the_prefix_a_photo_of(tiny_model):
    how = preparation(tiny_model, Listed([record([region(negatives=("blue circle",))])]))
    batch = make_batch(how, [0], 0)
    backend, _ = how.tokenizer._backend
    decoded = {
        ids: backend.decode(getattr(batch, ids)[0].tolist()) for ids in ("short_ids", "long_ids", "box_ids", "hard_ids")
    }
    assert "a photo of a blue star" in decoded["short_ids"]
    assert not any("photo" in decoded[ids] for ids in ("long_ids", "box_ids", "hard_ids"))


def test_a_batch_has_four_boxes_per_image_and_ten_false_captions_per_box(tiny_model):
    words = ("red", "blue", "green", "yellow", "pink", "black", "white", "brown", "grey", "purple", "orange", "teal")
    false = tuple(f"{word} star" for word in words)
    regions = [region((k / 10, 0.0, 1.0, 1.0), negatives=false if k in (1, 5) else ()) for k in range(6)]
    how = preparation(tiny_model, Listed([record(regions), record([region(negatives=false[:2])])]))
    batch = make_batch(how, [0, 1], 0)
    assert batch.boxes[:, 0].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0])
    assert batch.image_index.tolist() == [0, 0, 0, 0, 1]
    assert batch.hard_rows.tolist() == [1, 4]
    assert batch.is_text.sum(1).tolist() == [11, 3]
    expected = how.tokenizer.encode(["red circle", *false[:FALSE_CAPTIONS]])
    for row, ids in zip(batch.hard_ids[:11].tolist(), expected, strict=True):
        assert row[: len(ids)] == ids


def test_seed_epoch_and_index_choose_the_phrase_of_a_box(tiny_model):
    source = Listed([record([region()]) for _ in range(60)])
    how = preparation(tiny_model, source)
    lengths = [
        tuple((make_batch(how, range(60), epoch).box_ids != how.config.end_token).sum(1).tolist()) for epoch in (0, 1)
    ]
    counted = Counter(lengths[0])
    assert len(counted) == 2
    assert min(counted.values()) > 15
    assert lengths[0] != lengths[1]
    again = make_batch(how, [7], 0).box_ids
    assert int((again != how.config.end_token).sum()) == lengths[0][7]  # the same alone and among others
    other = preparation(tiny_model, source, seed=1)
    assert tuple((make_batch(other, range(60), 0).box_ids != how.config.end_token).sum(1).tolist()) != lengths[0]


def test_a_text_over_its_limit_is_cut_before_the_end_token_and_counted(tiny_model):
    long = " ".join(["red"] * 300)
    how = preparation(tiny_model, Listed([record([region(short=long, long=long)], caption=long, short=long)]))
    batch = make_batch(how, [0], 0)
    assert (batch.short_ids.shape[1], batch.long_ids.shape[1], batch.box_ids.shape[1]) == (77, 248, 77)
    assert batch.cut == 3
    for ids in (batch.short_ids, batch.long_ids):
        assert (ids[0] == how.config.end_token).tolist() == [False] * (ids.shape[1] - 1) + [True]


def test_a_record_that_cannot_be_prepared_is_left_out_and_reported(tiny_model):
    how = preparation(tiny_model, Listed([record(), record(caption="a zeppelin"), record()]))
    batch = make_batch(how, [0, 1, 2], 0)
    assert len(batch.pixels) == 2
    ((index, bad),) = batch.bad
    assert (index, bad.where, bad.kind) == (1, "record 1", "unknown word")
    assert len(make_batch(how, [1], 0).pixels) == 0


def test_image_features_are_those_of_the_encoder(tiny_model):
    encoder = load_encoder(tiny_model, dtype="float32", device="cpu")
    assert isinstance(encoder, ClipEncoder)
    how = preparation(tiny_model, Listed([record()]))
    batch = make_batch(how, [0], 0)
    image = batch_features(model_of(tiny_model), batch, stage=1).image
    torch.testing.assert_close(image.detach(), encoder.embed_images([how.source.image]), atol=1e-6, rtol=0)


def test_every_epoch_takes_each_record_once_except_an_incomplete_batch():
    for epoch in range(3):
        taken = [step_records(11, step=3 * epoch + k, global_batch=3, seed=5) for k in range(3)]
        assert [when for when, _ in taken] == [epoch] * 3
        assert len({index for _, indices in taken for index in indices}) == 9
    orders = [
        step_records(11, step=step, global_batch=11, seed=seed)[1].tolist() for step, seed in ((0, 5), (1, 5), (0, 6))
    ]
    assert len(set(map(tuple, orders))) == 3


def test_two_processes_with_two_micro_batches_take_the_records_of_one_process(tiny_model):
    how = preparation(tiny_model, SceneRecords(20, side=32))

    def pixels(processes, **options):
        own = dataclasses.replace(how, options=TrainingOptions(stage=1, **options))
        return [batch.pixels for batch in Batches(own, range(2, 4), processes)]

    whole = pixels(SINGLE, batch_size=8)
    processes = [pixels(ProcessGroup(rank, 2), batch_size=2, accumulate=2) for rank in (0, 1)]
    for step in range(2):
        micro_batches = [processes[rank][2 * step + micro] for rank in (0, 1) for micro in (0, 1)]
        assert torch.equal(torch.cat(micro_batches), whole[step])


# --- features and losses


def test_pool_boxes_equals_box_features_of_each_grid_in_value_and_gradient():
    random = np.random.RandomState(9)
    corners = np.sort(random.rand(7, 2, 2), axis=1)
    boxes = torch.from_numpy(corners.reshape(7, 4).astype(np.float32))
    image_index = torch.tensor([0, 0, 2, 2, 2, 2, 3])
    grids = torch.from_numpy(random.randn(5, 4, 6, 3).astype(np.float32)).requires_grad_()
    pooled = pool_boxes(grids, boxes, image_index)
    alone = torch.cat(
        [box_features(grids[g], boxes[n : n + 1] * torch.tensor([6, 4, 6, 4])) for n, g in enumerate(image_index)]
    )
    torch.testing.assert_close(pooled, alone, atol=1e-6, rtol=0)
    seed = torch.from_numpy(random.randn(7, 3).astype(np.float32))
    expected, got = (torch.autograd.grad((rows * seed).sum(), grids)[0] for rows in (alone, pooled))
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert pool_boxes(grids, boxes[:0], image_index[:0]).shape == (0, 3)


def test_the_losses_of_a_step_equal_loops_over_records(tiny_model):
    """The features come from the public functions for single images and texts, the losses from double loops."""
    source = SceneRecords(5, side=32)
    how = preparation(tiny_model, source)
    model = model_of(tiny_model)
    with torch.no_grad():
        for number, scale in enumerate((model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg)):
            scale.fill_(1.0 + number)
    losses = step_gradients(model, [make_batch(how, range(5), 0)], stage=2)

    encoder = load_encoder(tiny_model, dtype="float32", device="cpu")
    drawn = [source.sample(index) for index in range(5)]
    image = encoder.embed_images([picture for _, picture in drawn]).tolist()
    raw = [encoder.model.dense_features(encoder._pixels([picture], (32, 32)))[0] for _, picture in drawn]

    def encoded(texts, route):
        return encoder.encode_texts(texts, route=route).tolist()

    box, phrase, hard_box, hard_texts = [], [], [], []
    batch = make_batch(how, range(5), 0)
    captions = [how.tokenizer._backend[0].decode(ids.tolist()) for ids in batch.box_ids]
    for index, (one, _) in enumerate(drawn):
        for box_text in one.regions[:4]:
            corners = torch.tensor([box_text.box_xyxy]) * 4  # cells of the 4x4 grid
            pooled = torch.nn.functional.normalize(box_features(raw[index], corners), dim=-1)[0].detach().tolist()
            box.append(pooled)
            caption = box_text.long if "there" in captions[len(phrase)] else box_text.short
            phrase.append(encoded([caption], "region")[0])
            if box_text.negatives:
                hard_box.append(pooled)
                hard_texts.append(encoded([box_text.short, *box_text.negatives], "region"))
    short = encoded(["a photo of " + one.short_caption for one, _ in drawn], "short")
    long = encoded([one.caption for one, _ in drawn], "long")
    e, e2, e3 = np.exp([1.0, 2.0, 3.0]).tolist()
    expected = {
        "short": looped_pair_loss(image, short, e),
        "long": looped_pair_loss(image, long, e),
        "region": looped_pair_loss(box, phrase, e2),
        "hard": looped_hard_loss(hard_box, hard_texts, e3),
    }
    expected["loss"] = expected["short"] + expected["long"] + 0.1 * expected["region"] + 0.5 * expected["hard"]
    assert losses == pytest.approx(expected, rel=2e-5)  # float32 compared with float64


def assert_same_step(one, other, *, atol):
    (losses, gradients), (other_losses, other_gradients) = one, other
    assert losses == pytest.approx(other_losses, abs=atol)
    for name, gradient in gradients.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(gradient, other_gradients[name], atol=atol * scale, rtol=0, msg=name)


@pytest.mark.parametrize("stage", [1, 2])
def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny_model, stage):
    """float32 sums in another order: 1e-6 of the largest gradient of a tensor, some tens of them in a row."""
    whole, split = (trained_scenes(tiny_model, size=size, stage=stage) for size in (8, 2))
    assert_same_step(whole, split, atol=1e-5)
    assert set(whole[0]) == ({"short", "long", "loss"} if stage == 1 else {"short", "long", "region", "hard", "loss"})


def test_gradient_checkpointing_does_not_change_the_result(tiny_model):
    kept, again = (trained_scenes(tiny_model, checkpointed=checkpointed) for checkpointed in (False, True))
    assert kept[0] == again[0]
    assert all(torch.equal(kept[1][name], again[1][name]) for name in kept[1])


def test_the_gradient_is_that_of_finite_differences(tiny_model):
    _, gradients = trained_scenes(tiny_model, count=4)
    name, place = "visual_projection.weight", (3, 2)
    model, how = model_of(tiny_model).double(), preparation(tiny_model, SceneRecords(4, side=32))
    batch = make_batch(how, range(4), 0)
    values = []
    for step in (-1e-4, 1e-4):
        with torch.no_grad():
            moved = dict(model.named_parameters())[name]
            moved[place] += step
        values.append(step_gradients(model, [batch], stage=2)["loss"])
        with torch.no_grad():
            moved[place] -= step
    assert gradients[name][place].item() == pytest.approx((values[1] - values[0]) / 2e-4, rel=0.02, abs=1e-3)


def test_bfloat16_gives_similar_losses_and_float32_gradients(tiny_model):
    exact, rounded = (trained_scenes(tiny_model, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert rounded[0] != exact[0]
    assert all(gradient.dtype == torch.float32 for gradient in rounded[1].values())


def test_micro_batches_in_bfloat16_reach_every_weight(tiny_model):
    """Autocast keeps converted weights; those of a pass without gradients must not serve the one with them."""
    whole, split = (trained_scenes(tiny_model, size=size, dtype=torch.bfloat16) for size in (8, 2))
    assert split[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.02)
    reached = [{name for name, gradient in gradients.items() if gradient.any()} for _, gradients in (whole, split)]
    assert reached[0] == reached[1]


def test_batches_without_boxes_or_without_images_are_accepted(tiny_model):
    model, how = model_of(tiny_model), preparation(tiny_model, Listed([record(), record(caption="a zeppelin")]))
    losses = step_gradients(model, [make_batch(how, [0], 0), make_batch(how, [1], 0)], stage=2)
    assert losses == {"short": 0, "long": 0, "region": 0, "hard": 0, "loss": 0}
    assert model.logit_scale_hardneg.grad == 0


def test_published_sizes_are_the_defaults():
    assert (samples.MAX_BOXES, samples.FALSE_CAPTIONS, samples.PREFIX) == (4, 10, "a photo of ")
