"""The base LLM behind an OpenAI-compatible API, as a black box to try `kedro run --pipelines black_box` with.

    python benchmarks/chat_server.py
    python benchmarks/chat_server.py --env test --port 9000

It answers POST /v1/chat/completions with one token, the most likely one, and the log-probabilities of the first ones,
by the LLM of the environment's catalog in the chat template of its tokenizer.
"""

import argparse
from threading import Lock
from typing import Any, Literal

import torch
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from running import open_project

from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptFormat, chat_wrapping


class Message(BaseModel):
    """A message of a chat."""

    role: Literal["system", "user"]
    content: str


class Request(BaseModel):
    """What is read of a request; other arguments change nothing."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=2)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)


def create_app(llm: LanguageModel) -> FastAPI:
    """The routes of the API."""
    app, one_at_a_time = FastAPI(), Lock()

    @app.post("/v1/chat/completions")
    def complete(request: Request) -> dict[str, Any]:
        *system, user = request.messages
        before, after = chat_wrapping(llm.tokenizer, system[0].content if system else None, {})
        [tokens] = PromptFormat([], before, after, 0, 0).encode(llm.tokenizer, [user.content])
        if len(tokens) > llm.context_tokens:
            raise HTTPException(400, f"the context is {llm.context_tokens} tokens, but the messages have {len(tokens)}")
        with one_at_a_time, torch.inference_mode():
            logits = llm.model(torch.tensor([tokens], device=llm.device), use_cache=False, logits_to_keep=1).logits
        shares = logits[0, -1].float().log_softmax(dim=0)
        likely = [
            {"token": llm.tokenizer.decode([token]), "logprob": share}
            for share, token in zip(*(each.tolist() for each in shares.topk(20)), strict=True)
        ]
        said = likely[0] | {"top_logprobs": likely[: request.top_logprobs]}
        return {
            "id": "chat",
            "object": "chat.completion",
            "created": 0,
            "model": request.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": likely[0]["token"]},
                    "logprobs": {"content": [said]} if request.logprobs else None,
                    "finish_reason": "length",
                }
            ],
            "usage": {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": len(tokens) + 1},
        }

    return app


def main() -> None:
    """Answer until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose base LLM answers")
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    uvicorn.run(create_app(open_project(arguments.env).load("base_llm")), port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
