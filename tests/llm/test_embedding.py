import numpy as np
import torch

from reclora_kedro.llm.sentence_encoder import embed_texts


def test_embeddings_are_means_of_last_hidden_states_whatever_the_batch(tiny_llm):
    texts = ["Heat", "", "Action Film 3 (1990), a long one", "Heat"]
    embeddings = embed_texts(tiny_llm, texts, max_tokens=8, tokens_per_batch=20)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (4, 32)
    assert not embeddings[1].any()
    np.testing.assert_allclose(embeddings[0], embeddings[3], atol=1e-6)
    ids = tiny_llm.tokenizer(texts[2])["input_ids"][:8]
    with torch.no_grad():
        states = tiny_llm.last_hidden_states(torch.tensor([ids]))[0]
    np.testing.assert_allclose(embeddings[2], states.mean(0).numpy(), atol=1e-5)


def test_equal_texts_are_embedded_once():
    class Lengths:
        device, width = torch.device("cpu"), 1

        def __init__(self) -> None:
            self.read = list[str]()

        def tokenize(self, texts, max_tokens):
            self.read += texts
            return [[1] * len(text) for text in texts]

        def encode(self, token_ids, last):
            return last[:, None] + 1.0

    encoder = Lengths()
    embeddings = embed_texts(encoder, ["milk", "ice", "milk", "", "ice"], max_tokens=8, tokens_per_batch=20)
    assert embeddings[:, 0].tolist() == [4, 3, 4, 0, 3]
    assert encoder.read == ["milk", "ice", ""]
