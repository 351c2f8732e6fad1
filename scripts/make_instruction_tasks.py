"""make_instruction_tasks.py - tables of computed instruction examples, used by make_instructions.py.

Each generator yields (instruction, input, answer); input may be empty. Numbers are drawn, answers are
computed, so they are right by construction; wordings are written out so that no two kinds read alike.
"""
import json

NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kofi", "Lena",
         "Marco", "Nadia", "Omar", "Paula", "Quinn", "Rosa", "Stefan", "Tara"]


def money(cents):
    return f"{cents // 100}.{cents % 100:02d}"


def word_problems(rng):
    def n(low, high):
        return rng.randint(low, high)

    def who():
        return rng.choice(NAMES)

    for _ in range(5):
        a, p = n(3, 9), n(2, 8)
        yield (f"{who()} buys {a} notebooks at {p} euros each and pays with a 100-euro note. How much change is due?", "",
               f"{a} notebooks cost {a} × {p} = {a * p} euros. The change is 100 - {a * p} = {100 - a * p} euros.")
        v, t = 10 * n(4, 12), n(2, 6)
        yield (f"A train travels at {v} km/h for {t} hours. How far does it get?", "",
               f"Distance = speed × time = {v} × {t} = {v * t} km.")
        boxes, each, lost = n(4, 12), n(6, 15), n(2, 9)
        yield (f"{who()} packs {boxes} boxes with {each} candles each. {lost} candles are broken. "
               "How many whole candles are there?", "",
               f"{boxes} × {each} = {boxes * each} candles, less {lost} broken ones: {boxes * each - lost}.")
        k, each = n(3, 8), n(5, 14)
        yield (f"{k * each} sweets are shared equally among {k} children. How many does each child get?", "",
               f"{k * each} ÷ {k} = {each}. Each child gets {each} sweets.")
        w, h = n(3, 15), n(2, 11)
        yield (f"A rectangle is {w} m long and {h} m wide. Find its area and its perimeter.", "",
               f"Area: {w} × {h} = {w * h} m². Perimeter: 2 × ({w} + {h}) = {2 * (w + h)} m.")
        have, spend = n(40, 90), n(5, 30)
        yield (f"{who()} has {have} coins, spends {spend} and then finds {spend // 2 + 1}. How many coins are there now?",
               "", f"{have} - {spend} = {have - spend}, and {have - spend} + {spend // 2 + 1} = "
               f"{have - spend + spend // 2 + 1} coins.")
        young, older = n(4, 15), n(2, 9)
        yield (f"{who()} is {young} years old. A sister is {older} years older. "
               f"How old will the sister be in {older + 3} years?", "",
               f"The sister is {young} + {older} = {young + older} now. In {older + 3} years she will be "
               f"{young + older} + {older + 3} = {young + 2 * older + 3}.")
        price, off = 10 * n(2, 20), rng.choice([10, 20, 30, 40, 50])
        yield (f"A coat costs {price} euros and is reduced by {off} percent. What is the new price?", "",
               f"{off}% of {price} is {price * off // 100}. The new price is {price} - {price * off // 100} = "
               f"{price - price * off // 100} euros.")
        a, b, c = n(4, 20), n(4, 20), n(4, 20)
        total = a + b + c
        mean = f"{total // 3}" if total % 3 == 0 else f"about {total / 3:.2f}"
        yield (f"What is the mean of {a}, {b} and {c}?", "",
               f"The sum is {a} + {b} + {c} = {total}. Divided by 3 this is {mean}.")
        rate, hours, extra = n(11, 24), n(20, 38), n(10, 60)
        yield (f"{who()} earns {rate} euros an hour and works {hours} hours, and gets a bonus of {extra} euros. "
               "What is the pay?", "",
               f"{rate} × {hours} = {rate * hours} euros, plus the bonus of {extra}: {rate * hours + extra} euros.")
        people, seats = n(37, 99), n(6, 12)
        full = -(-people // seats)
        yield (f"{people} people want to cross a lake. A boat takes {seats} people. How many trips are needed?", "",
               f"{people} ÷ {seats} = {people // seats} remainder {people % seats}. "
               + (f"The rest needs one more trip, so {full} trips." if people % seats else f"So {full} trips are enough."))
        flour, cakes, want = 50 * n(4, 9), n(2, 4), n(5, 9)
        yield (f"A recipe for {cakes} cakes needs {flour * cakes} g of flour. How much is needed for {want} cakes?", "",
               f"One cake needs {flour * cakes} ÷ {cakes} = {flour} g. For {want} cakes: {want} × {flour} = "
               f"{want * flour} g.")


CONVERSIONS = [
    ("km", "metres", lambda x: f"{x} km = {x * 1000} m", (2, 40)),
    ("kg", "grams", lambda x: f"{x} kg = {x * 1000} g", (2, 25)),
    ("hours", "minutes", lambda x: f"{x} h = {x * 60} min", (2, 12)),
    ("minutes", "seconds", lambda x: f"{x} min = {x * 60} s", (3, 45)),
    ("degrees Celsius", "Fahrenheit", lambda x: f"{x} °C × 9/5 + 32 = {x * 9 / 5 + 32:g} °F", (-10, 40)),
    ("inches", "centimetres", lambda x: f"{x} in × 2.54 = {x * 2.54:.2f} cm", (5, 60)),
    ("miles", "kilometres", lambda x: f"{x} mi × 1.609 = {x * 1.609:.2f} km", (2, 50)),
    ("litres", "millilitres", lambda x: f"{x} l = {x * 1000} ml", (2, 9)),
    ("KiB", "bytes", lambda x: f"{x} KiB × 1024 = {x * 1024} bytes", (2, 64)),
    ("days", "hours", lambda x: f"{x} d × 24 = {x * 24} h", (2, 14)),
]
ASK = ["Convert {} {} to {}.", "How much is {} {} in {}?", "Express {} {} in {}.", "Please convert {} {} into {}."]


def conversions(rng):
    at = 0
    for unit, target, answer, (low, high) in CONVERSIONS:
        for x in rng.sample(range(low, high), 4):
            yield ASK[at % len(ASK)].format(x, unit, target), "", answer(x)
            at += 1


ITEMS = ["keyboard", "desk lamp", "coffee mug", "rain coat", "phone cable", "garden hose", "sketch book", "tea pot"]
CITIES = ["Oslo", "Lyon", "Porto", "Graz", "Leeds", "Bologna", "Ghent", "Krakow"]
TOPICS = ["budget review", "product demo", "team lunch", "security training", "design talk", "interview"]


def extraction(rng):
    ask = "Extract the data as JSON with the keys {}."
    for at in range(9):
        name, item, count, cents = rng.choice(NAMES), ITEMS[at % 8], rng.randint(2, 9), rng.randint(300, 9900)
        text = rng.choice([f"{name} ordered {count} pieces of the {item} at {money(cents)} euros each.",
                           f"Order by {name}: {item}, quantity {count}, unit price {money(cents)} EUR.",
                           f"Please send {count} × {item} ({money(cents)} euros per piece) to {name}."])
        yield (ask.format("customer, item, quantity, unit_price"), text,
               json.dumps({"customer": name, "item": item, "quantity": count, "unit_price": cents / 100}))
    for at in range(8):
        topic, city, day, hour = TOPICS[at % 6], rng.choice(CITIES), rng.randint(1, 28), rng.randint(8, 17)
        month, number = rng.choice([("March", 3), ("June", 6), ("October", 10), ("January", 1)])
        text = rng.choice([f"The {topic} takes place in {city} on {day} {month} 2025 at {hour}:30.",
                           f"Don't forget: {topic}, {month} {day}, 2025, {hour}:30, {city} office."])
        yield (ask.format("event, city, date (YYYY-MM-DD), time"), text,
               json.dumps({"event": topic, "city": city, "date": f"2025-{number:02d}-{day:02d}",
                           "time": f"{hour:02d}:30"}))
    for name in rng.sample(NAMES, 10):
        age, city = rng.randint(19, 70), rng.choice(CITIES)
        job = rng.choice(["nurse", "carpenter", "teacher", "programmer", "pilot", "gardener"])
        text = rng.choice([f"{name}, {age}, works as a {job} in {city}.",
                           f"In {city} lives {name}, a {job} aged {age}.",
                           f"My neighbour {name} is a {age}-year-old {job} from {city}."])
        yield (ask.format("name, age, job, city"), text,
               json.dumps({"name": name, "age": age, "job": job, "city": city}))


REVIEWS = [
    ("The battery lasts two days and the screen is bright. I love it.", "positive"),
    ("Broke after a week, and nobody answers my mails.", "negative"),
    ("It is a chair. You can sit on it.", "neutral"),
    ("Best soup I have had in years!", "positive"),
    ("We waited an hour, and the food was cold.", "negative"),
    ("The parcel arrived on Tuesday.", "neutral"),
    ("Setup took two minutes, and everything simply worked.", "positive"),
    ("The sound is thin and the cable far too short.", "negative"),
    ("The book has 320 pages and a blue cover.", "neutral"),
    ("What a waste of money.", "negative"),
    ("Our children did not want to leave, so well did they like the place.", "positive"),
    ("Not bad at all, I would buy it again.", "positive"),
    ("I expected more; after two washes the colour is gone.", "negative"),
    ("The hotel is next to the station.", "neutral"),
    ("The staff went out of their way to help us.", "positive"),
    ("The update made the app slower than ever.", "negative"),
]
TICKETS = [
    ("I was charged twice for the same month.", "billing"), ("The app closes as soon as I open a photo.", "bug"),
    ("Could you add a dark theme?", "feature request"), ("How do I change my password?", "question"),
    ("My invoice shows the wrong company name.", "billing"), ("Search returns nothing since yesterday.", "bug"),
    ("It would be great to export tables as CSV.", "feature request"), ("Where do I find my licence key?", "question"),
    ("Please refund the last payment.", "billing"), ("Saving a file larger than 2 GB fails with error 7.", "bug"),
    ("Can I use one account on two computers?", "question"),
    ("Please support keyboard shortcuts for zooming.", "feature request"),
]
TEXTS = [
    ("The home team scored twice in the last ten minutes.", "sport"),
    ("The central bank raised its key rate by a quarter point.", "business"),
    ("Researchers found water ice in a crater near the pole of the moon.", "science"),
    ("The orchestra opens its season with a new violin concerto.", "culture"),
    ("The striker will miss the final because of a knee injury.", "sport"),
    ("The start-up sold half of its shares to an investor.", "business"),
    ("A new telescope shows galaxies that formed soon after the big bang.", "science"),
    ("The museum shows early drawings of the painter for the first time.", "culture"),
]
MAILS = [("You have WON a free cruise!!! Click here within 24 hours.", "spam"),
         ("Hi Eva, are we still meeting at three tomorrow?", "not spam"),
         ("Cheap pills, no prescription, ship worldwide", "spam"),
         ("The minutes of Monday's meeting are attached.", "not spam"),
         ("Dear friend, I need your help to move 4 million dollars.", "spam"),
         ("Your library books are due on Friday.", "not spam")]


CLASSIFY = ["Classify the sentiment of the review as positive, negative or neutral.",
            "Which kind of support ticket is this: billing, bug, feature request or question?",
            "Assign the sentence to one topic: sport, business, science or culture.",
            "Is this mail spam? Answer with spam or not spam."]


def classification(rng):
    del rng
    for text, label in REVIEWS:
        yield CLASSIFY[0], text, label
    for text, label in TICKETS:
        yield CLASSIFY[1], text, label
    for text, label in TEXTS:
        yield CLASSIFY[2], text, label
    for text, label in MAILS:
        yield CLASSIFY[3], text, label


UNSEEN_REVIEWS = [
    ("The shoes fit perfectly and look great.", "positive"), ("The zip broke on the first day.", "negative"),
    ("The bottle holds one litre.", "neutral"), ("I am delighted with this little radio!", "positive"),
    ("Rude staff and a dirty room.", "negative"), ("The shop opens at nine.", "neutral"),
]
UNSEEN_TICKETS = [
    ("The amount on my bill is too high.", "billing"), ("The program crashes when I press save.", "bug"),
    ("Please add an option to sort by date.", "feature request"), ("How can I delete my account?", "question"),
]
UNSEEN_TEXTS = [
    ("The goalkeeper saved a penalty in the last minute.", "sport"),
    ("The company doubled its profit in the third quarter.", "business"),
    ("Biologists described a new kind of frog.", "science"),
    ("The theatre shows a comedy by a young author.", "culture"),
]

PHRASES = [
    ("Good morning!", "Guten Morgen!", "Bonjour !", "¡Buenos días!"),
    ("Thank you very much.", "Vielen Dank.", "Merci beaucoup.", "Muchas gracias."),
    ("Where is the station?", "Wo ist der Bahnhof?", "Où est la gare ?", "¿Dónde está la estación?"),
    ("How much does it cost?", "Wie viel kostet das?", "Combien ça coûte ?", "¿Cuánto cuesta?"),
    ("I would like a coffee, please.", "Ich hätte gern einen Kaffee, bitte.", "Je voudrais un café, s'il vous plaît.",
     "Quisiera un café, por favor."),
    ("My name is Laura.", "Ich heiße Laura.", "Je m'appelle Laura.", "Me llamo Laura."),
    ("The book is on the table.", "Das Buch liegt auf dem Tisch.", "Le livre est sur la table.",
     "El libro está sobre la mesa."),
    ("See you tomorrow!", "Bis morgen!", "À demain !", "¡Hasta mañana!"),
    ("It is raining today.", "Heute regnet es.", "Il pleut aujourd'hui.", "Hoy llueve."),
    ("I do not understand.", "Ich verstehe nicht.", "Je ne comprends pas.", "No entiendo."),
    ("Happy birthday!", "Alles Gute zum Geburtstag!", "Joyeux anniversaire !", "¡Feliz cumpleaños!"),
    ("The train is late.", "Der Zug hat Verspätung.", "Le train est en retard.", "El tren llega tarde."),
]


def unseen(rng):
    """Questions of the same kinds with other texts and numbers, each with one exact answer."""
    for (text, label), ask in ([(row, CLASSIFY[0]) for row in UNSEEN_REVIEWS]
                               + [(row, CLASSIFY[1]) for row in UNSEEN_TICKETS]
                               + [(row, CLASSIFY[2]) for row in UNSEEN_TEXTS]):
        yield ask, text, label
    at = 0
    for unit, target, answer, (low, high) in CONVERSIONS[:4] + CONVERSIONS[7:8]:
        for x in rng.sample(range(low, high), 3):
            yield ASK[at % len(ASK)].format(x, unit, target), "", answer(x)
            at += 1


def translation(rng):
    ask = ["Translate into {}.", "How do you say this in {}?", "Give the {} translation."]
    at = 0
    for phrase in PHRASES:
        for language, text in zip(("German", "French", "Spanish"), phrase[1:]):
            yield ask[at % 3].format(language), phrase[0], text
            at += 1
    del rng


def numbers(rng):
    roman = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
             (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    for x in rng.sample(range(9, 250), 5):
        yield f"Write {x} in binary.", "", f"{x:b}"
    for x in rng.sample(range(20, 4000), 5):
        yield f"Write {x} in hexadecimal.", "", f"0x{x:X}"
    for x in rng.sample(range(14, 2000), 5):
        rest, text = x, ""
        for value, sign in roman:
            text += sign * (rest // value)
            rest %= value
        yield f"Write {x} as a Roman numeral.", "", text
    for x in rng.sample(range(12, 200), 4):
        divisors = [d for d in range(1, x + 1) if x % d == 0]
        yield f"List all divisors of {x}.", "", ", ".join(map(str, divisors))
    for start, minutes in ((9 * 60 + 40, 95), (13 * 60 + 15, 130), (22 * 60 + 30, 75), (7 * 60 + 55, 48)):
        end = (start + minutes) % 1440
        yield (f"A film starts at {start // 60:02d}:{start % 60:02d} and lasts {minutes} minutes. When does it end?", "",
               f"{minutes} minutes are {minutes // 60} h {minutes % 60} min, so it ends at {end // 60:02d}:{end % 60:02d}."
               if minutes >= 60 else f"It ends at {end // 60:02d}:{end % 60:02d}.")


def expressions(rng):
    """What a C expression prints; operands stay positive, so C and Python agree."""
    for a, b in ((17, 5), (29, 4), (100, 7)):
        yield "What does this C statement print?", f'printf("%d %d\\n", {a} / {b}, {a} % {b});', f"{a // b} {a % b}"
    for a, s in ((3, 4), (5, 3), (1, 10)):
        yield "What does this C statement print?", f'printf("%d\\n", {a} << {s});', f"{a << s}"
    for a, b in ((12, 10), (6, 11), (25, 14)):
        yield ("What does this C statement print?", f'printf("%d %d %d\\n", {a} & {b}, {a} | {b}, {a} ^ {b});',
               f"{a & b} {a | b} {a ^ b}")
    for a, b in ((7, 3), (9, 12)):
        yield ("What does this C statement print?", f'printf("%s\\n", {a} > {b} ? "yes" : "no");',
               "yes" if a > b else "no")
    words = ["river", "lamp", "stone", "cloud", "paper", "tiger"]
    for word in words[:4]:
        yield "What does this C statement print?", f'printf("%zu %c\\n", strlen("{word}"), "{word}"[1]);', f"{len(word)} {word[1]}"
    for low, high in ((1, 5), (3, 9), (2, 12)):
        total = sum(range(low, high + 1))
        yield ("What is the value of s after this loop?",
               f"int s = 0;\nfor (int i = {low}; i <= {high}; i++)\n    s += i;", f"{total}")
    del rng


def lists(rng):
    for _ in range(5):
        values = rng.sample(range(1, 60), 7)
        even = [v for v in values if v % 2 == 0]
        yield "Keep only the even numbers, in the given order.", ", ".join(map(str, values)), \
            ", ".join(map(str, even)) if even else "There are none."
    for _ in range(4):
        values = rng.sample(range(10, 99), 6)
        yield ("Give the largest and the smallest number.", ", ".join(map(str, values)),
               f"largest: {max(values)}, smallest: {min(values)}")
    for _ in range(4):
        names = rng.sample(NAMES, 5)
        yield "Sort the names alphabetically, one a line.", " ".join(names), "\n".join(sorted(names))
    for _ in range(3):
        names = [rng.choice(NAMES[:5]) for _ in range(7)]
        yield ("Remove the repetitions and keep the first of each.", ", ".join(names), ", ".join(dict.fromkeys(names)))


def all_tasks(rng):
    for make in (word_problems, conversions, extraction, classification, translation, numbers, expressions, lists):
        yield from make(rng)
