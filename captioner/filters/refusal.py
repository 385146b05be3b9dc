"""Drops captions in which the engine declines to describe the picture."""

# ruff: noqa: E501 - a table: one way of declining a line
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from captioner.filters.text import judged, outside_quotes
from captioner.types import Caption, Sample

_LOOKING = (
    "help(?! but)|assist|provide|describe|see|view|access|identify|process|fulfill?|comply|analy[sz]e|generate|create|caption"
    "|recogni[sz]e|open|load|interpret|display|discuss|engage|tell you|answer|complete|continue|directly|actually"
    "|determine (?:who|the identity)|say who|tell who|name (?:the|any|this)|look at|talk about|give you|offer|share|respond|do that"
)
_PICTURE = "(?:image|picture|photo|photograph|video|screenshot|file|attachment|content|request|url|link)s?"
_NOT = r"(?: not|n't)"
_CANNOT = (
    rf"(?:can'?t|cannot|can not|could ?n[o']?t|(?:won'?t|will not)(?: be able to)?|must refuse to|refuse to"
    rf"|(?:am |'m |was )(?:\w+ly )?(?:unable|not (?:able|allowed|permitted|designed|equipped|trained|comfortable|going)) ?(?:to)?"
    rf"|(?:do{_NOT}|lack|have no)(?: (?:currently|actually|really))?(?: have)?"
    rf"(?: (?:the|any|direct|an))*(?: (?:ability|capability|capacity|means|permission|way) (?:to|of)| access to)"
    rf"|do{_NOT}(?: (?:feel|have))? (?=identify|recogni[sz]e|describe|caption))"
)
_I = r"\bi ?(?:(?:currently|also|simply|really|just|still|personally|respectfully|therefore) )?"
_SO = "(?:(?:really|so|very|truly|terribly) )?"
_BEGINS = r"(?:^|[.!?\n] ?)"
_MODEL = (
    r"(?:ai|artificial intelligence|llm|(?:large )?language model|text-(?:based|only)|chat ?bot|computer program"
    r"|virtual assistant|ki|machine learning model)\b"
)
# An AI researcher or a language model's picture declines nothing.
_GOES_ON = r"(?=[,.;]|$| (?:language|text|model|system|assistant|trained|developed|created|designed|i|it)\b)"
# An engine that speaks of itself, of what it does not do, and of pictures, in one sentence, describes none.
_ITSELF = (
    r"(?:^|[.!?\n;] ?|, |but |so |however,? |because |that )i(?:'m|'d|'ve|'ll)?\b(?! (?:do not|don't) see any (?!image|picture|photo))"
    r"(?! (?:can't|cannot) help but)"
)
_DENIES = r"(?:\b(?:not|cannot|unable|no|without|decline|refuse|lack|need)\b|n't\b)"
_TOPIC = r"\b(?:images?|pictures?|photos?|photographs?|visuals?|descri\w+|caption\w*|identif\w+|identity|requests?|attach\w*|upload\w*)\b"
_SEND = "(?:provide|upload|share|attach|send|resend|re-upload|re-send|include|insert|paste|show)"
_FAILED = (
    r"(?:(?:could|did|does|can|is|was|has)(?: not|n't)|cannot|failed to|is missing|is broken|seems? to|appears? to)"
)

# Each pattern with words of which one must be there: a plain search for them is ten times as fast.
_PHRASES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("i ", "i'"), rf"{_ITSELF}(?=[^.!?\n]{{0,150}}?{_TOPIC})[^.!?\n]{{0,60}}?{_DENIES}[^.!?\n]{{0,80}}?{_TOPIC}"),
    (("for me to", "your ", "an error"), rf"{_BEGINS}there (?:is|was) (?:no|an error) [^.!?\n]{{0,40}}?(?:for me to|{_PICTURE}$)"
     rf"|{_BEGINS}there was an error \w+ing (?:the|your) {_PICTURE}|{_BEGINS}your {_PICTURE} (?:appears?|seems?|is|was|could|did|has|cannot)\b"),
    (("sorry", "afraid"), rf"{_BEGINS}(?:i|we)(?:'m|'re| am| are) {_SO}(?:sorry|afraid)[, ]+(?:but )?(?:that )?(?:i|we)\b"),
    (("sorry",), rf"{_BEGINS}sorry[,.!]? (?:about that[,.!] )?(?:but )?(?:that is |that's )?(?:i ?{_CANNOT}|something i|no can do)"),
    (("sorry",), rf"{_BEGINS}i(?:'m| am) {_SO}sorry[,.]? (?:but|for the|about the|to say|i)\b"),
    (("i ", "i'm"), rf"{_I}{_CANNOT},? (?:[\w']+ ){{0,2}}?(?:{_LOOKING})\b"),
    (("i ", "i'm"), rf"{_I}(?:do{_NOT} have|have no|lack) (?:\w+ )?access to (?:\w+ ){{0,2}}?{_PICTURE}\b"),
    (("i ", "i'm"), rf"(?:{_BEGINS}|since |because |but |however, )i ?(?:'m|am) (?:just |only |merely )?(?:an? )?{_MODEL}"),
    (("as a", "being a"), rf"\b(?:as|being) an? (?:[\w-]+,? ){{0,4}}?{_MODEL}{_GOES_ON}"),
    (("as a",), r"\bas an? (?:[\w-]+,? ){0,4}?assistant,? i\b"),
    (
        ("unable", "not able"),
        rf"{_BEGINS}(?:currently )?(?:unable|not able) to (?:\w+ ){{1,3}}?(?:the|this|your|any|an) {_PICTURE}\b",
    ),
    (
        ("no ",),
        rf"\bno {_PICTURE} (?:(?:was|is|has been|seems to be) )?"
        r"(?:provided|attached|uploaded|available|given|found|included|(?:visible )?(?:in|with) (?:our|your|this) "
        r"(?:message|conversation|chat|request|prompt))\b",
    ),
    (
        ("n't", " not ", "without", "forgot"),
        rf"\b(?:do|did|have|does|seem){_NOT} (?:seem to |appear to )?(?:see|receive|received|find|get|got|be) "
        rf"(?:an?|any|the|your) (?:\w+ )?{_PICTURE} ?(?:attached|included|uploaded|provided|here|in (?:your|our|this|the)|[.!,?]|$)"
        rf"|\byou (?:have{_NOT}|did{_NOT}|forgot to|seem to have forgotten to|may have forgotten to) (?:\w+ )?{_SEND}"
        rf"|\bwithout (?:seeing|viewing|access to|having|being able to (?:see|view)) (?:the|an|any|your)(?: actual)? {_PICTURE},? "
        r"(?:i|it)\b",
    ),
    (
        ("please", "could you", "can you", "need you", "if you"),
        rf"\b(?:please|could you(?: please)?|can you(?: please)?|i need you to|if you (?:can|could)?) ?{_SEND} (?:me )?(?:with )?"
        rf"(?:it again|(?:the|an?|your|another|a valid)(?: \w+){{0,2}}? {_PICTURE})\b"
        rf"|\b{_SEND} (?:the|your|it|an?) ?{_PICTURE}? (?:to|for|with) me\b"
        rf"|\b(?:the |your ){_PICTURE} (?:once more|again)\b[^.]{{0,20}}\?",
    ),
    (
        ("image", "picture", "photo", "video", "attachment", "link", "file"),
        rf"\b{_PICTURE} (?:could not|cannot|can't|couldn't|did not|didn't|failed to|does not|doesn't) (?:seem to )?(?:be )?"
        r"(?:load|loaded|displayed|opened|processed|accessed|retrieved|viewed|upload|come through|display)\b"
        rf"|\bthe {_PICTURE} (?:is|was|seems to be|appears to be) (?:not (?:available|accessible|provided|visible to)|unavailable)\b"
        rf"|\b{_PICTURE} (?:that )?you(?:'ve| have)? [^.?!\n]{{3,40}}?{_FAILED} (?:missing|come through|load|upload|be |attached|visible)"
        rf"|\blink to the {_PICTURE} (?:is|seems|appears) ",
    ),
    (("see",), rf"\bi (?:do not|don't|didn't|did not|can't|cannot) (?:\w+ )?see (?:an?|any|the) {_PICTURE}\b"),
    (
        ("policy", "policies", "guidelines", "programming"),
        r"\b(?:violates?|violate|against|breach(?:es)?|per|due to) (?:my|our|the|content|safety|openai) "
        r"(?:\w+ ){0,2}?(?:policy|policies|guidelines)\b"
        r"|\bmy (?:\w+ ){0,2}?(?:policy|policies|guidelines|programming) (?:do(?:es)?(?: not|n't)|prevents?|prohibits?|forbids?)\b",
    ),
    (("decline", "refuse"), r"\bi (?:\w+ ){0,3}?(?:decline (?:to|this|your)|must refuse)\b|\bi (?:must|have to) decline\b"),
    (("only process text", "only work with text"), r"\bi can only (?:process|work with|read) text\b"),
    (
        ("cannot be", "can't be", "not enough", "enough information"),
        rf"\b(?:this|the|your) (?:{_PICTURE}|request) (?:cannot|can't) be (?:described|completed|fulfilled|captioned|shown to)\b"
        r"|\bi (?:do not|don't) have enough (?:information|context|details?) to (?:describe|caption|say|answer|identify)\b",
    ),
    (("i don't", "i do not"), r"\bi (?:do not|don't) (?:provide|give|write|offer|describe|identify|caption|comment)\b"),
    (("regret",), rf"{_BEGINS}i regret (?:that|to)\b"),
    (("not going to",), r"\bi(?:'m| am) not going to (?:describe|caption|identify|help)\b"),
    (("rather not", "prefer not"), r"\bi(?:'d| would) (?:rather|prefer) not\b"),
    (("apologi",), rf"\bi apologi[sz]e,? (?:but|for)\b|{_BEGINS}(?:my )?apologies,? (?:but|i)\b"),
    (("comfortable",), r"\bi(?:'m| am| do not feel| don't feel) (?:not )?comfortable\b"),
    (
        ("for me to", "i can help", "happy to", "glad to"),
        r"\b(?:not|n't|impossible|inappropriate)(?: be)? ?(?:appropriate|possible|ethical|right)? for me to\b"
        r"|\bnot something (?:that )?i(?:'m| am| can)\b"
        r"|\bi(?:'d| would) be (?:happy|glad) to (?:help|describe|assist)[^.?!\n]{0,30} but\b",
    ),
    (("best to", "be able to"), r"\bif you (?:can |could )?(?:describe|tell)[^.?!\n]{1,40}i(?:'ll| will| can)\b"),
    # Other languages: what declines in one of them seldom stands in a caption outside quotes.
    (("抱歉", "对不起", "對不起", "遗憾"), r"(?:抱歉|对不起|對不起|很遗憾)[，,。]?\s?(?:但)?(?:我|作为|作為|无法|無法)"),
    (
        ("无法", "無法", "不能", "没有办法", "没有能力"),
        r"我[^。！？\n]{0,6}(?:无法|無法|不能|没有办法|没有能力)[^。！？\n]{0,12}(?:图|圖|照片|画面|视频|描述|请求)"
        r"|(?:图片|圖片|照片|画面|视频)[^。！？\n]{0,6}我(?:无法|無法|不能)",
    ),
    (("无法", "無法", "不能"), r"我(?:无法|無法|不能)(?:直接)?(?:查看|看到|描述|提供|识别|識別|访问|协助|处理|帮)"),
    (("作为", "作為"), r"作[为為](?:一(?:个|個|名|款))?\s?(?:ai|人工智能|人工智慧|大?语言模型)"),
    (("申し訳", "すみません"), r"(?:申し訳(?:ありません|ございません)|すみません)が"),
    (("できません",), r"(?:お手伝い|お答え|説明|対応|見る|描写)(?:こと)?(?:は|が|することは)?できません"),
    (("죄송", "도와드릴"), r"죄송(?:합니다|하지만)|도와드릴 수 없"),
    (
        ("lo siento", "lamento", "no puedo", "como "),
        r"\blamento no poder\b|\bno puedo [^.!?\n]{0,60}?(?:imagen|imágenes|foto|describir|identificar)|\b(?:lo siento|lamento)[,.]? (?:pero |mucho, )?(?:no puedo|como)\b|\bcomo (?:un )?modelo de lengua"
        r"|\bno puedo (?:ver|describir|ayudar|identificar|proporcionar|acceder)",
    ),
    (
        ("désolé", "je ne ", "en tant qu", "je regrette"),
        r"\bje regrette,? (?:mais )?je ne|\bje ne (?:peux|suis) [^.!?\n]{0,60}?(?:image|photo|descri|décri|identifi)|\bdésolée?,? (?:mais )?je ne (?:peux|suis)|\bje ne (?:peux|suis) pas (?:voir|décrire|aider|en mesure|capable)"
        r"|\ben tant qu(?:e |')(?:modèle|ia\b|intelligence|assistant)",
    ),
    (
        ("leid", "leider", "als ki", "ich kann", "kann ich", "ich bin"),
        r"\btut mir (?:sehr )?leid,? (?:aber )?(?:ich (?:kann|darf)|dabei)|\bals (?:ein )?(?:ki\b|sprachmodell)"
        r"|\bich kann [^.!?\n]{0,60}?(?:nicht|kein)[^.!?\n]{0,40}(?:bild|foto|beschreib|ansehen)|\bich bin (?:\w+ )?nicht in der lage|\b(?:kann|darf) ich (?:\w+ ){1,5}?nicht (?:beschreiben|sehen|helfen|erkennen|öffnen)"
        r"|\bich (?:kann|darf) (?:\w+ ){1,5}?nicht (?:beschreiben|sehen|helfen|erkennen|öffnen)",
    ),
    (
        ("desculpe", "lamento", "sinto muito", "não "),
        r"\b(?:desculpe|lamento|sinto muito),? (?:mas )?(?:eu )?não (?:posso|consigo)"
        r"|\bnão (?:posso|consigo) (?:ver|descrever|ajudar|identificar|fornecer)",
    ),
    (
        ("не могу", "не вижу", "языковая модель", "не можу"),
        r"(?:извините|к сожалению|простите),? (?:но )?я не (?:могу|вижу)|\bя не могу (?:описать|помочь|просм|увидеть|видеть)"
        r"|как (?:большая )?языковая модель|як мовна модель|я не можу (?:описати|допомогти|бачити)",
    ),
    (("mi dispiace", "non posso", "non sono"), r"\bnon (?:posso|sono in grado) [^.!?\n]{0,40}?(?:immagin|foto|descri|identif)|\bmi dispiace,? (?:ma )?non posso|\bnon posso (?:descrivere|vedere|aiutar|identificare)"),
    (("przykro", "nie mogę"), r"\bprzykro mi,? |\bnie mogę (?:opisać|zobaczyć|pomóc)"),
    (("spijt me", "kan "), r"\bhet spijt me,? |\bik kan (?:\w+ ){1,4}?niet (?:beschrijven|zien|helpen)"),
    (("üzgünüm", "maalesef"), rf"{_BEGINS}(?:üzgünüm|maalesef),"),
    (("xin lỗi", "tôi không thể"), rf"{_BEGINS}xin lỗi,|\btôi không thể (?:xem|mô tả|giúp|nhìn)"),
    (("ขออภัย", "ขอโทษ", "ไม่สามารถ"), r"(?:ขออภัย|ขอโทษ)\s?(?:ค่ะ|ครับ)?\s?(?:ฉัน|ผม|ดิฉัน)|(?:ฉัน|ผม)ไม่สามารถ"),
    (("खेद", "क्षमा", "माफ़"), r"मुझे खेद है|क्षमा करें,|माफ़ कीजिए,"),
    (("عذر", "لا أستطيع", "لا يمكنني"), r"عذر(?:ا|اً|ًا)،|لا (?:أستطيع|يمكنني) (?:وصف|رؤية|عرض|مساعد)"),
    (("maaf", "saya tidak"), rf"{_BEGINS}maaf,|\bsaya tidak (?:dapat|bisa) (?:melihat|mendeskripsikan|membantu)"),
    (("tyvärr", "beklager", "desværre"), rf"{_BEGINS}(?:tyvärr|beklager|desværre|dessverre),? ?(?:kan|men)? ?(?:jag|jeg)\b"),
)  # fmt: skip
_COMPILED = tuple(re.compile(pattern) for _, pattern in _PHRASES)
_WORDS = tuple((word, place) for place, (words, _) in enumerate(_PHRASES) for word in words)
_APOSTROPHES = str.maketrans("’‘ʼ`", "''''")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Declining in the engine's own voice, anywhere in a caption; a quoted sign that is sorry declines nothing."""

    version: ClassVar[int] = 2

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "refusal" if _phrases(caption.text) else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {"refusal.phrases": float(_phrases(caption.text))}


@lru_cache(maxsize=8)
def _phrases(text: str) -> int:
    """How many different phrases of declining stand outside quotes."""
    own = outside_quotes(judged(text)).translate(_APOSTROPHES).lower()
    places = {place for word, place in _WORDS if word in own}
    return sum(1 for place in places if _COMPILED[place].search(own) is not None)
