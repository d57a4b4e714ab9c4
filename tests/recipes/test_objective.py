import pytest
import torch

from recipes.mini import batches, objective


@pytest.mark.parametrize("kind", batches.ATTRIBUTE_PHRASES)
def test_the_loss_of_an_attribute_uses_its_own_phrases(kind):
    batch = batches.make_batch(batches.BatchSpec(range(4), (64, 64), kind="shapes"))
    own = torch.tensor([text in {phrase.text for phrase in batches.ATTRIBUTE_PHRASES[kind]} for text in batch.phrases])
    phrase, scale = torch.eye(len(batch.phrases)), torch.tensor(10.0)
    places = batch.labels.view(4, 16, 16)[:, ::2, ::2].flatten(1)  # a place of each patch, whose thing it shows
    right = (batch.truth[places] == 1).float()
    found = [objective._word_losses(batch, right * mask, phrase, scale)[kind] for mask in (own, ~own)]
    assert found[0] < 0.5 * found[1]
