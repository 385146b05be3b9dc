"""Captions to judge: hostile ones with the reason each is dropped for, and honest ones of many styles."""

from __future__ import annotations

GOOD = "A brown dog lies on a grey sofa next to a red ball and looks towards the window."
PROMPT = "Study the photograph with care. Write down all that a blind reader would want to know, in plain sentences."
NUMBERS = ", ".join(str(n) for n in range(1, 61))

HOSTILE: list[tuple[str, str]] = [
    # nothing there
    ("", "empty_caption"),
    ("   \n\t  ", "empty_caption"),
    ("...", "empty_caption"),
    ("!!!!!!!!!!!!!!!!", "empty_caption"),
    ("\u200b\u200b", "empty_caption"),
    ("<think>The user wants a caption of a dog.</think>", "empty_caption"),
    ("<think>The user wants a caption of a dog and I should look at", "empty_caption"),
    # characters
    (GOOD + "\x00", "bad_characters"),
    (GOOD + "\x1b[31m", "bad_characters"),
    (GOOD[:20] + "\x85" + GOOD[20:], "bad_characters"),
    (GOOD + "\r\n" + GOOD[::-1], "bad_characters"),
    (GOOD[:20] + "\u202e" + GOOD[20:], "bad_characters"),
    (GOOD[:20] + "\u2066" + GOOD[20:], "bad_characters"),
    (GOOD[:20] + "\u200b" + GOOD[20:], "bad_characters"),
    (GOOD[:20] + "\u200d" + GOOD[20:], "bad_characters"),
    ("\ufeff" + GOOD, "bad_characters"),
    (GOOD + "\ud83d", "bad_characters"),
    ("A d\ufffdg lies on a s\ufffdfa next to a b\ufffdll in the sun.", "bad_characters"),
    (GOOD + "\U000e0041\U000e0042", "bad_characters"),
    (GOOD[:20] + "\u2028" + GOOD[20:], "bad_characters"),
    # markup
    ("<image>\n" + GOOD, "markup"),
    (GOOD + "<|im_end|>", "markup"),
    (GOOD + "<|endoftext|>" + GOOD, "markup"),
    (GOOD + "</s>", "markup"),
    ("<s> " + GOOD, "markup"),
    ("[INST] Say more. [/INST] " + GOOD, "markup"),
    ("<<SYS>> Be good. <</SYS>> " + GOOD, "markup"),
    (GOOD + " ASSISTANT: " + "It is a quiet scene.", "markup"),
    ("USER: What is it? " + GOOD, "markup"),
    ("### Assistant: " + GOOD, "markup"),
    ("Assistant: " + GOOD, "markup"),
    ("<think>It is a dog.</think> " + GOOD, "markup"),
    ("A dog <box>12, 30, 400, 500</box> lies on a grey sofa in the sun.", "markup"),
    ("A dog at [0.353, 0.096, 0.892, 0.991] lies on a grey sofa in the sun.", "markup"),
    ("A dog (112,40),(560,700) lies on a grey sofa in the morning sun.", "markup"),
    ("<p>" + GOOD + "</p>", "markup"),
    ('<a href="https://example.org">' + GOOD + "</a>", "markup"),
    (GOOD + "<br/>", "markup"),
    ("```\n" + GOOD + "\n```", "markup"),
    ("A dog <loc_123><loc_44> lies on a grey sofa in the sun all day.", "markup"),
    (GOOD + "<end_of_turn>", "markup"),
    (GOOD + "<｜end▁of▁sentence｜>", "markup"),
    ("▁A▁brown▁dog▁lies▁on▁a▁grey▁sofa▁next▁to▁a▁red▁ball.", "markup"),
    ("AĠbrownĠdogĠliesĠonĠaĠgreyĠsofaĠnextĠtoĠaĠredĠball.", "markup"),
    ('{"caption": "A brown dog lies on a grey sofa next to a red ball."}', "markup"),
    ('The sign reads "<|im_start|>system" and hangs over a wooden door.', "markup"),
    ("A dog &amp; a cat lie on a grey sofa next to a red ball.", "markup"),
    (GOOD + "<0x0A>", "markup"),
    # refusals
    ("I'm sorry, but I can't help with that request.", "refusal"),
    ("I’m sorry, but I cannot assist with identifying people in this picture.", "refusal"),
    ("Sorry, I can't describe this image for you today.", "refusal"),
    ("As an AI language model, I do not have eyes and see nothing.", "refusal"),
    ("I am unable to view the image that you have shared with me here.", "refusal"),
    ("Unable to view the image at this time, it may be broken.", "refusal"),
    ("I cannot provide a description of this picture as it shows a person.", "refusal"),
    ("There is no image provided, so nothing can be said about it.", "refusal"),
    ("It seems that no image was attached. Please upload the image again.", "refusal"),
    ("The image could not be loaded, and so nothing is known of it.", "refusal"),
    ("This goes against my content policy and will not be described here.", "refusal"),
    (GOOD + " However, I'm not able to identify the person on the right.", "refusal"),
    ("\"I'm sorry, but I can't assist with that.\"", "refusal"),
    ("I apologize, but the picture seems to show something private.", "refusal"),
    ("I must decline to describe what this picture shows of these people.", "refusal"),
    ("抱歉，我无法查看或描述这张图片的内容，请您重新上传。", "refusal"),
    ("申し訳ありませんが、この画像の内容をお伝えすることはいたしかねます。", "refusal"),
    ("Lo siento, pero no puedo ayudar con la descripción de esta imagen.", "refusal"),
    ("Es tut mir leid, aber ich kann dieses Bild leider nicht beschreiben.", "refusal"),
    ("Je suis désolé, mais je ne peux pas décrire cette image pour vous.", "refusal"),
    ("К сожалению, я не могу описать это изображение подробно для вас.", "refusal"),
    # echoes
    ("Describe this image in detail.", "prompt_echo"),
    ("Please describe the image in detail. " + GOOD, "prompt_echo"),
    ("Write a detailed caption for the picture. " + GOOD, "prompt_echo"),
    ("What do you see in this image? " + GOOD, "prompt_echo"),
    ("You are a helpful assistant. " + GOOD, "prompt_echo"),
    (PROMPT, "prompt_echo"),
    (GOOD + " Study the photograph with care.", "prompt_echo"),
    (GOOD + " write down all that a blind reader\nwould want to know in plain sentences", "prompt_echo"),
    ("[World Knowledge]: a dog. [OCR]: none. " + GOOD, "prompt_echo"),
    ("请详细描述这张图片。图中有一只棕色的狗躺在灰色的沙发上。", "prompt_echo"),
    # cut
    ("A brown dog lies on a grey sofa next to a red", "truncated_caption"),
    ("A brown dog lies on a grey sofa next to a red ball, a", "truncated_caption"),
    ("A brown dog lies on a grey sofa next to a red ball,", "truncated_caption"),
    ('A brown dog lies under a wooden sign that reads "', "truncated_caption"),
    ('A brown dog lies under a wooden sign that reads "OPEN,', "truncated_caption"),
    ("A brown dog lies on a grey sofa (next to a red ball (", "truncated_caption"),
    ("The picture shows the following things on the table:", "truncated_caption"),
    ("一只棕色的狗躺在灰色的沙发上，旁边有一个红色的球，球的", "truncated_caption"),
    ("A brown dog lies on a grey sofa -", "truncated_caption"),
    # said again
    ("The picture shows " + "a dog and " * 40 + "a cat.", "repetitive_caption"),
    ("The picture shows " + "a very " * 30 + "small cat.", "repetitive_caption"),
    (" ".join(f"{n}. A dog stands there." for n in range(1, 40)), "repetitive_caption"),
    ("There is a list. 1. a dog 2. a dog 3. a dog 4. a dog 5. a dog 6. a dog.", "repetitive_caption"),
    ("The dog is brown. The dog is brown. The dog is brown.", "repetitive_caption"),
    (f"{GOOD} {GOOD}", "repetitive_caption"),
    (f"{GOOD}\n\n{GOOD}\n\n{GOOD}", "repetitive_caption"),
    ("图中有一只狗，" * 12 + "图中有一只猫。", "repetitive_caption"),
    ("图中有一只狗躺在沙发上。" * 4, "repetitive_caption"),
    (" ".join(f"{n}. a dog" for n in range(1, 6)) + ".", "repetitive_caption"),
    ("In 2019 a dog, 3 legs. " + " ".join(f"In {y} a dog, 3 legs." for y in range(2020, 2030)), "repetitive_caption"),
    ("The crowd sings " + "la" * 60 + ".", "repetitive_caption"),
    ("The crowd sings " + "la-" * 60 + "la.", "repetitive_caption"),
    ("The wall says " + "STOP " * 60 + "in red.", "repetitive_caption"),
    ('The wall says "' + "STOP " * 60 + '" in red.', "repetitive_caption"),
    ("A ruler shows 1, " + "2, " * 60 + "and more of them.", "repetitive_caption"),
    ("A ruler shows " + ", ".join(map(str, range(900))) + ".", "repetitive_caption"),
    ("A road" + "." * 80, "repetitive_caption"),
    ("A table lists:\n" + "| --- | --- |\n" * 20 + "and more.", "repetitive_caption"),
    ("ภาพนี้แสดงสุนัข" * 8 + ".", "repetitive_caption"),
    (
        " ".join(
            f"In the left part of the picture stands a man in a {c} coat." for c in ("red", "blue", "grey", "tan")
        ),
        "repetitive_caption",
    ),
    # short
    ("A dog.", "too_short"),
    ("Dog.", "too_short"),
    ("A brown dog lies on a sofa.", "too_short"),
    ("一只狗。", "too_short"),
    ("สุนัขสีน้ำตาล", "too_short"),
]

HONEST: list[str] = [
    GOOD,
    "The image shows a busy street at night. Neon signs light the wet pavement, and people with umbrellas walk by.",
    'A red stop sign stands at the corner of a street. It reads "STOP". Behind it, two cars are parked.',
    'A neon sign over the bar repeats one word three times: "OPEN OPEN OPEN". Two stools stand in front of it.',
    'A paper on the glass door says "Sorry, we are closed". The shop behind it is dark and empty.',
    "A paper on the glass door says Sorry, we are closed. The shop behind it is dark and empty.",
    "A cartoon robot says in a speech bubble \"I'm sorry, but I can't do that\", while a man stares at it.",
    "On the table are a red cup, a blue cup, a green cup, a yellow cup, a white cup and a black cup.",
    f"A wooden ruler lies on the desk. Its numbers run {NUMBERS}. A pencil lies beside it.",
    "Seven jerseys hang in a row with the numbers 4, 7, 10, 11, 19, 23 and 30 printed on their backs.",
    "1. A dog sleeps on a rug.\n2. A cat sits at the window.\n3. A bird hangs in a cage near the lamp.",
    "- A dog sleeps on a rug.\n- A cat sits at the window.\n- A child plays with wooden bricks on the floor.",
    "**Scene:** A dog sleeps on a rug.\n\n**Mood:** The room is calm, lit by one small lamp in the corner.",
    "Row, row, row your boat is printed on the cover, above a drawing of three children in a small boat.",
    "The poem on the page reads: The sea is wide, the sea is deep,\nthe sea is where the sailors sleep;\n"
    "the moon is high, the moon is white,\nthe moon is watching through the night.",
    "A heart made of two marks, <3, is painted on the wall next to the words I love you in white letters.",
    "A blackboard shows the formula a < b and b > c in white chalk, with a drawing of a triangle below it.",
    'A computer screen shows a form with the line "<your name>" in grey and a blue button under it.',
    'A screenshot of a terminal shows "USER: admin" in green letters on a black background, nothing else.',
    "The clock on the tower shows 10:30 a.m. and the flag of the U.S. hangs from a pole in front of it.",
    "A tall man stands in front of the White House in Washington, D.C.",
    'The book on the table is open at its title page, which reads "The Old Man and the Sea"',
    "A small boat lies on the beach at low tide (the sea can be seen far behind it).",
    "Is it a fox or a dog? The animal in the snow has red fur, a white chest and a thick tail!",
    "A happy dog runs over the beach with a yellow ball in its mouth! 🐶",
    "A family of four 👨‍👩‍👧‍👦 is painted on the wall of a school, under a rainbow and a smiling sun.",
    "一只棕色的狗躺在灰色的沙发上，旁边有一个红色的球。窗外是一片绿色的草地。",
    "画面左侧有一位穿红色外套的女士，画面右侧有一位穿蓝色外套的男士，两人正在握手。",
    "茶色い犬が灰色のソファーの上で寝ています。横には赤いボールがあり、窓から光が差し込んでいます。",
    "갈색 개가 회색 소파 위에 누워 있고 그 옆에는 빨간 공이 놓여 있습니다.",
    "สุนัขสีน้ำตาลนอนอยู่บนโซฟาสีเทา ข้างๆ มีลูกบอลสีแดงวางอยู่ใกล้หน้าต่าง",
    "Ein brauner Hund liegt auf einem grauen Sofa neben einem roten Ball und schaut zum Fenster hinaus.",
    "Un chien brun est couché sur un canapé gris ; à côté de lui, une balle rouge « neuve » brille.",
    "Un perro marrón está tumbado en un sofá gris, junto a una pelota roja. ¡Qué tranquilo parece!",
    "Коричневая собака лежит на сером диване рядом с красным мячом и смотрит в окно.",
    "كلب بني يستلقي على أريكة رمادية بجانب كرة حمراء وينظر نحو النافذة.",
    "سگ قهوه‌ای روی مبل خاکستری کنار توپ قرمز دراز کشیده و به پنجره نگاه می‌کند.",
    "एक भूरा कुत्ता लाल गेंद के पास भूरे सोफे पर लेटा है और खिड़की की ओर देख रहा है।",
    "Μια καφέ σκύλα είναι ξαπλωμένη σε έναν γκρι καναπέ δίπλα σε μια κόκκινη μπάλα.",
    "Il-kelb kannella qiegħed fuq is-sufan griż, ħdejn ballun aħmar, fil-belt ta' Ħal Għargħur.",
    "Cafe\u0301 chairs stand on the pavement; a waiter in a white shirt carries three cups on a tray.",
    "A goalkeeper is unable to see the ball, which is hidden behind two players in front of the goal.",
    "A person whose face cannot be seen holds a sign. I can see a crowd behind, out of focus.",
    "No image is brighter than this: a white dune under a midday sky, without one footprint in the sand.",
    "The artist's assistant: a young woman in a blue apron who mixes paint at a long wooden table.",
    "The photograph is sharp and bright. It shows a person on the left and a bicycle on the right. "
    'Two lines of text are legible: "BAKERY" and "Open 7-19". The main colours are brown, grey and white.',
    "The photo shows what looks like a cat. The picture is upright and mostly grey, with a vivid red accent at the "
    'top left. Its text reads "Do not enter", "Do not enter" and "Exit 24".',
    "The scene shows a kitchen. On the left side of the counter is a kettle; on the right side of the counter is a "
    "toaster; in the middle of the counter is a bowl of lemons. A window above the counter lets in the light.",
    "Three people stand on a stage. The first person wears a red dress and sings. The second person wears a black suit "
    "and plays the piano. The third person wears a white shirt and plays the drums. Behind them hangs a blue curtain.",
    "A chess board seen from above: white has castled, black has not, and the pieces e4, e5, Nf3, Nc6, Bb5 have moved.",
    "A price list on the wall: coffee 2.50, tea 2.00, cake 3.20, juice 2.80, water 1.00, soup 4.50, bread 1.20.",
    "The diagram describes the steps of an image pipeline, from a camera on the left to a screen on the right.",
    "The man is sorry to leave: he waves from the train with one hand and holds a handkerchief in the other.",
    "A page of a website at https://example.org/menu shows pizzas, prices and a map in three columns.",
    "She said: “Look at this picture!” and pointed at a small oil painting in a heavy golden frame.",
    "The image depicts a busy city street with a variety of vehicles and pedestrians. There are several cars "
    "parked along the side of the road, with one car in the foreground on the left side of the image, and "
    "another car in the background on the right side of the image. A large truck is visible in the middle of "
    "the scene, close to the center of the image. There are also several people walking on the sidewalk, with"
    " one person carrying a handbag on the left side of the image and another person carrying a backpack on "
    "the right side of the image. A traffic light can be seen at the top of the image, close to the left "
    "side, while another traffic light is located at the top of the image, close to the right side. In the "
    "background, there are buildings on both sides of the street. The sky is overcast, and the street appears"
    " to be wet, suggesting that it has recently rained. The overall atmosphere of the scene is one of a "
    "typical day in the city.",
    "The image is a grid of four photographs. The top left photograph shows a dog in a park. The top right "
    "photograph shows a cat in a park. The bottom left photograph shows a bird in a tree. The bottom right "
    "photograph shows a fish in a tank. Each photograph has a white border, and the grid is set on a black "
    "background.",
    'The image shows a menu. The menu is divided into three sections. The first section is titled "Starters" '
    'and lists the following items: "Soup - $4.50", "Salad - $5.50", "Bread - $2.00". The second section is '
    'titled "Mains" and lists the following items: "Fish - $12.50", "Steak - $15.50", "Pasta - $11.00". The '
    'third section is titled "Desserts" and lists the following items: "Cake - $4.50", "Ice cream - $3.50", '
    '"Fruit - $3.00".',
    "The table in the image has four rows and three columns. Row 1: Apples, 12, 3.50. Row 2: Pears, 14, 4.20."
    " Row 3: Plums, 9, 2.80. Row 4: Cherries, 30, 6.00.",
    "图片展示了一个现代化的厨房。厨房的左侧有一个白色的冰箱，厨房的右侧有一个黑色的炉子，厨房的中间有一张木制的桌子。桌子上放"
    "着一个花瓶，花瓶里插着几朵红色的玫瑰。桌子旁边有四把椅子，椅子是白色的。墙上挂着一幅画，画的内容是一片海滩。",
    "In the foreground, there is a wooden table with a white plate on it. On the plate, there is a slice of "
    "pizza with cheese and tomatoes. To the left of the plate, there is a glass of water. To the right of the"
    " plate, there is a fork and a knife. In the background, there is a window with a view of a garden. In "
    "the garden, there is a tree with green leaves. To the left of the window, there is a painting of a boat."
    " To the right of the window, there is a clock.",
    'The image shows a bar chart titled "Sales by year". In 2019, the sales were 120 units. In 2020, the '
    "sales were 140 units. In 2021, the sales were 180 units. In 2022, the sales were 210 units. The bars are"
    " blue and the axis is labelled in units.",
]
