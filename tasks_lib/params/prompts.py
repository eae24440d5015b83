"""What a video shows, in words."""

from __future__ import annotations

from tasks_lib.params.base import ParamGroup, Text

NO_REWRITING = "there is no language model here that rewrites prompts"


class PromptParams(ParamGroup):
    """Words around and instead of the prompts of single segments."""

    NOT_FOLLOWED = {"enhance_prompt": NO_REWRITING}

    base_prompt: Text = ""
    """Prompt for every segment whose own prompt is empty."""

    text_before_prompts: Text = ""
    """Put before every prompt."""

    text_after_prompts: Text = ""
    """Put after every prompt."""

    enhance_prompt: bool = False
    """Let a language model rewrite the prompts, where the engine has one."""
