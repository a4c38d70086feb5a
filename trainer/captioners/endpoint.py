"""Captions by a server that speaks OpenAI's language: one on this machine, or any whose address a person gives.

https://platform.openai.com/docs/api-reference/chat: POST /chat/completions with the picture as a data URL.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.captioners.base import Say, asked, with_sentence
from trainer.captioners.options import Endpoint
from trainer.data.pictures import open_picture, plain
from trainer.errors import InputError

WITHOUT_EFFECT = {"folder", "recursive", "workers", "batch", "key_variable", "timeout"}
Asked = tuple[str, str]
"""The prompt, and the picture as a data URL."""


class EndpointCaptioner:
    """Sends pictures, reduced and as JPEG without their EXIF data, and writes down what is answered."""

    what = "Captions by a server"
    separator = ","

    def __init__(self, options: Endpoint, say: Say = print) -> None:
        import httpx

        self.options, self.batch, self.existing = options, options.batch, options.existing
        self.by = options.model_dump_json(exclude=WITHOUT_EFFECT)
        key = os.environ.get(options.key_variable, "") if options.key_variable else ""
        if options.key_variable and not key:
            raise InputError(f"key_variable: {options.key_variable} is not set: put the key into it, or leave it empty")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(headers=headers, timeout=options.timeout)
        self.url = f"{options.url.rstrip('/')}/chat/completions"
        say(f"The pictures are sent to {self.client.build_request('POST', self.url).url.host}.")

    def prepare(self, picture: Path) -> Asked:
        """The picture as it is sent."""
        image = open_picture(picture, "#ffffff").image.convert("RGB")
        image.thumbnail((self.options.side, self.options.side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92)
        return asked(self.options, picture), f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

    def look(self, pictures: Sequence[Asked]) -> list[str]:
        """The server's answers."""
        with ThreadPoolExecutor(self.batch) as pool:
            return list(pool.map(self._answer, pictures))

    def caption(self, seen: str, before: str | None) -> str:
        """The caption of an answer."""
        return with_sentence(self.options, seen, before)

    def _answer(self, question: Asked) -> str:
        import httpx

        prompt, picture = question
        content = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": picture}}]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": self.options.max_length}
        try:
            answer = self.client.post(
                self.url, json={**body, **({"model": self.options.model} if self.options.model else {})}
            )
            answer.raise_for_status()
            text = answer.json()["choices"][0]["message"]["content"]
        except httpx.HTTPStatusError as error:
            said = plain(error.response.text)
            raise InputError(
                f"url: {self.url} answers {error.response.status_code} ({said}): check model, key and address"
            ) from error
        except httpx.HTTPError as error:
            raise InputError(
                f"url: {self.url} cannot be reached ({type(error).__name__}): start the server or check the address; "
                "a second run goes on where this one stopped"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"url: {self.url} does not answer as OpenAI's servers do: check the address") from error
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"url: {self.url} answers without words: choose a model that reads pictures")
        return text
