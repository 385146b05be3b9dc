"""The words that labelled texts are made of; what one half says, the other half does not."""

# ruff: noqa: E501 - tables of words
from __future__ import annotations

from dataclasses import dataclass

from tests.labels import Half


@dataclass(frozen=True, slots=True, kw_only=True)
class Wordings:
    """quoting: frames for what may be quoted. counters: shapes with n or letter, and item. turning: frames for one
    changed word. instructions: verb, thing, tail. refusing: excuse, what is declined, offer.
    """

    half: Half
    quoting: tuple[str, ...]
    quotable: tuple[str, ...]
    items: tuple[str, ...]
    counters: tuple[str, ...]
    phrases: tuple[str, ...]
    junk: tuple[str, ...]
    turning: tuple[str, ...]
    fillers: tuple[str, ...]
    open_marks: tuple[str, ...]
    tokens: tuple[str, ...]
    turns: tuple[str, ...]
    characters: tuple[str, ...]
    prompts: tuple[str, ...]
    instructions: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    refusing: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


TUNING = Wordings(
    half="tuning",
    quoting=(
        'A sheet of paper on the door reads "{}" in blue ink, and a bell hangs beside it.',
        'A phone lies on the table. Its screen shows the message "{}" above a keyboard.',
        "The speech bubble of the robot says “{}” while the girl beside it laughs.",
        'In the screenshot, a grey box with the text "{}" covers half of a web page.',
    ),
    quotable=(
        "I'm sorry, but I can't help with that",
        "As an AI language model, I cannot see",
        "Describe this image in detail.",
        "Please upload the image again",
        "No image was provided",
        "I cannot assist with this request",
        "You are a helpful assistant.",
        "Write a caption for this photo",
        "help help help help help help",
        "USER: hello",
    ),
    items=("a dog", "a red car on the street", "The image shows a tree.", "a person with a bag", "wooden chair"),
    counters=("{n}. {item}", "{n}) {item}", "In {n}, {item}.", "Step {letter}: {item}.", "Item {n}: {item}", "{n}. {item}\n","({n}) {item}", "{n}: {item}", "No. {n} is {item}.", "Figure {n} shows {item}.", "{letter}. {item}", "Day {n}: {item}."),
    phrases=("图中有一只狗，", "一个人站在街上。", "白い犬がいます。", "สุนัขนั่งอยู่", "非常", "ですです"),
    junk=("\n", "| | |\n", "- \n", "---\n", "...", "! "),
    turning=(
        "There is a {} car parked on the left side of the street in front of the building.",
        "The man on the right is wearing a {} shirt and is looking at the camera with a smile.",
        "In the background of the image, a {} house can be seen behind the trees and the fence.",
    ),
    fillers=("red", "blue", "green", "white", "small", "large", "black", "grey"),
    open_marks=(",", ":", " (", ' "', " “", " -", ";", "\n2.", "\n-", " and", " the", "\n**Mood:", " («"),
    tokens=(
        *("<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "<<SYS>>", "<|begin_of_text|>", "<|eot_id|>"),
        *("<|start_header_id|>assistant<|end_header_id|>", "<|im_start|>assistant", "<|im_end|>", "<|endoftext|>"),
        *("<|vision_start|><|image_pad|><|vision_end|>", "<start_of_turn>model", "<end_of_turn>", "<eos>", "<bos>"),
        *("<|assistant|>", "<|end|>", "<|user|>", "<|image_1|>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<image>"),
        *("<|action_start|>", "[UNUSED_TOKEN_145]", "<eoa>", "[gMASK]", "<sop>", "<img>", "<im_end>", "<|python_tag|>"),
        *("<|startoftext|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<reserved_106>"),
        *("<|channel|>final<|message|>", "<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>", "<end_of_utterance>"),
        *("<fake_token_around_image><image>", "[IMG_BREAK]", "<loc0123><loc0456>", "<extra_id_1>", "<|image_start|>"),
        *("<im_patch>", "<grounding><phrase>a tram</phrase>", "<image_placeholder>", "<begin_of_image>", "<|observation|>"),
        *("<｜Assistant｜>", "<image_id>", "<slice>", "</image>", "<IMG_CONTEXT>", "<IMAGE_TOKEN>", "<|im_sep|>", "<mask>"),
        *("<CAPTION>", "<DETAILED_CAPTION>", "<OD>", "[SEP]", "[CLS]", "◁think▷", "<answer>", "<|vq_lbr_audio_0|>", "<video>"),
    ),
    turns=("\nUSER: {}", "\n\nUser: {}\nAssistant: {}", " ASSISTANT: {}", "\nHuman: {}", " USER: What is this? {}","\nQuestion: {}\nAnswer: {}", "\n### Human: {}\n### Assistant: {}", "\n\nASSISTANT: {}", "\nuser\n{}\nassistant\n{}",
           "\n\n## Instruction:\n{}", "\n### Response:\n{}"),
    characters=("\x00", "\x1b[0m", "\u200b", "\u202e", "\ufeff", "\x7f", "\ud800", "\u2028", "\r", "\x0c", "\ufffd" * 12),
    prompts=(
        "Describe this image. Be as precise as you can about positions and colours. Do not mention the mood",
        "You caption pictures for a museum. Name each object once and say where it is. Quote all text that can be read",
        "Here is what detectors found in the picture. Use it where it agrees with what you see. Write one paragraph",
    ),
    instructions=(
        ("Describe", "Please describe", "Can you describe", "Briefly describe", "Caption", "Explain"),
        ("this image", "the image", "the picture in detail", "this photo", "the following image", "the scene in the video"),
        (".", ":", " in detail.", " for me.", " in one sentence."),
    ),
    refusing=(
        ("I'm sorry, but I can't", "I cannot", "Sorry, I am unable to", "I am not able to", "As an AI model, I can't"),
        ("describe this image", "assist with that request", "view the picture", "identify the person in the photo",
         "help with this", "provide a description of this image", "see the image you shared"),
        ("", "", " Please try another picture.", " Is there anything else that I can do for you?", " Please upload it again."),
    ),
)  # fmt: skip

HELD_OUT = Wordings(
    half="held_out",
    quoting=(
        'The headline of the newspaper is "{}", and below it is a photo of a crowded square.',
        "Auf dem Bildschirm steht „{}“, daneben liegt ein zerbrochener Stift auf dem Tisch.",
        'A cartoon in which a parrot says "{}" to a pirate with a wooden leg.',
        "A neon sign in the shape of the words ‘{}’ glows above the empty counter.",
        '"{}" is printed on the back of the jacket that hangs over the chair.',
    ),
    quotable=(
        "Sorry, I am unable to answer",
        "I do not have access to images",
        "What do you see in this picture?",
        "Generate a caption for the given image.",
        "I must decline",
        "The image failed to load",
        "You are an expert photographer.",
        "go go go go go go go go",
        "System: ready",
        "I am a large language model",
    ),
    items=("two birds on a wire", "A window with a view of the sea.", "lamp", "the same old boat", "a plate of rice and beans"),
    counters=("[{n}] {item}", "{item} {n},", "Panel {n}: {item}.", "At {n} there is {item}.", "{letter}) {item}", "Row {n} - {item}"),
    phrases=("画面中央是一座桥，", "猫が二匹。", "ภาพแสดงเรือ", "树上有鸟。", "哈哈", "きれいな"),
    junk=("\n\n", "* * *\n", "|---|\n", "==\n", "__ ", "?!"),
    turning=(
        "Next to the table stands a {} chair that faces the window and has a cushion on it.",
        "A {} boat is tied to the pier, and its reflection can be seen in the calm water.",
        "The {} flowers in the vase add a touch of colour to the room and make it look warm.",
    ),
    fillers=("yellow", "wooden", "pink", "old", "new", "orange", "tiny", "bright", "brown"),
    open_marks=(", and", " with a", " [", " ‘", " —", " of", "\n4.", "\n*", " such as", " to the left of", " is", " 「", "/"),
    tokens=(
        *("<|fim_middle|>", "<|tool_call|>", "<|vision_pad|>", "<unused42>", "<|reserved_special_token_7|>", "<|object_ref_start|>"),
        *("<|box_start|>", "<start_of_image>", "</answer>", "<tool_response>", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "<img_12>"),
        *("<bbox>", "</ref>", "<quad>", "<|system|>", "<|thinking|>", "<｜tool▁calls▁begin｜>", "<|eom_id|>", "<|return|>"),
        *("<|audio|>", "<seg_3>", "<0xE2>", "[PAD]", "<sep>", "<|image|>", "<patch_index_0044>", "<|endofprompt|>", "<|end_of_turn|>"),
    ),
    turns=("\nAssistant: {}", "\n\nHuman: {}\n\nAssistant: {}", "\n### User:\n{}", "\nSYSTEM: {}", "\n### Instruction: {}\n### Response: {}",
           "\n\nGPT: {}", "\nassistant\n{}", "\n# Answer: {}"),
    characters=("\x08", "\x1b]0;a", "\u200e", "\u2066", "\ufffe", "\x80", "\udc80", "\u2029", "\x0b", "\u00ad", "\ufffd" * 20),
    prompts=(
        "Look closely at this picture. Tell a friend on the phone what it shows from left to right. Leave out guesses",
        "A catalogue needs an entry for this photograph. Begin with the main subject and go on to the background. Use plain words",
        "The alt text of this picture is given below and may be wrong. Correct it by what can be seen. Keep it under eighty words",
    ),
    instructions=(
        ("Provide a detailed description of", "Write a caption for", "Could you describe", "Generate an alt text for",
         "Now describe", "Tell me about", "Give a short summary of"),
        ("the given image", "this photograph", "the attached picture", "what you see in the image", "the photo below"),
        (".", ":", " in plain English.", " in two sentences.", ", please."),
    ),
    refusing=(
        ("Unfortunately, I cannot", "I am sorry, I'm not able to", "My apologies, but I can't", "I don't have the ability to",
         "I won't", "Regrettably, I am unable to", "Due to privacy concerns, I can't", "I'm afraid I cannot"),
        ("describe what is in this picture", "recognize people in images", "access the image", "give you a caption for this photo",
         "process this image", "discuss the content of this image", "open the attachment", "fulfill this request"),
        ("", "", " However, I can help with something else.", " If you tell me what it shows, I can write a caption.",
         " Thank you for understanding."),
    ),
)  # fmt: skip

FAMILIES: dict[Half, Wordings] = {"tuning": TUNING, "held_out": HELD_OUT}
