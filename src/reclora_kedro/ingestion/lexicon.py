"""Words in the names of columns and in their values that tell what these hold, in a few languages."""


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


USER = words_of(
    "user usr customer cust client visitor member household reviewer buyer shopper account consumer person profile "
    "guest patron reader listener viewer player uid msno email mail kunde kunden nutzer benutzer besucher hörer leser "
    "cliente usuario utilisateur utente gebruiker klient użytkownik användare bruger"
)
ITEM = words_of(
    "item product prod article movie film book isbn asin track song artist art business game app anime video news sku "
    "stock recipe course place venue poi beer wine joke offer hotel restaurant photo post ad listing goods good show "
    "series album podcast program job vacancy image merchandise material food dish meal manga comic paper document doc "
    "content banner ean gtin upc artikel produkt buch lied titel spiel rezept producto película pelicula libro livre "
    "produit prodotto produto filme juego jeu vare"
)
ID = words_of("id ids code no nr number num key asin isbn sku uid hash ean gtin upc msno")
NO_ID = words_of(
    "name title type age gender count session category class group duration price rating score description url image "
    "date time year author quantity index length size text review stars genre genres tags event status department aisle"
)
TIME = words_of(
    "time timestamp date datetime ts day dat at when created updated moment clock epoch zeit datum zeitpunkt fecha "
    "heure quando czas tijd"
)
NO_TIME = words_of("birth birthday release released duration published age first active listed submitted")
ORDINAL = words_of("number sequence seq step position week day")
RATING = words_of(
    "rating ratings rate stars star score overall grade points vote bewertung sterne note nota calificación "
    "calificacion puntuación puntuacion voto étoiles etoiles ocena betyg"
)
CLICK = words_of(
    "click clicked clicks label target liked like recommended recommend converted thumbs thumb upvote upvoted"
)
TITLE = words_of("title headline caption titel titre título titulo titolo")
NAME = words_of("name label nom nombre nome naam bezeichnung")
FREE_TEXT = words_of("description desc abstract summary overview plot synopsis body content about text")
QUANTITY = words_of("quantity qty units amount count pieces menge anzahl cantidad quantité quantite quantità")
PLAY = words_of(
    "plays play playcount listens listen hours minutes seconds watched watch views weight times stunden durée duree "
    "horas playtime dwell"
)
PRICE = words_of("price amount total value revenue preis betrag prix precio importe prezzo sales cost")
ORDER = words_of("invoice order basket transaction receipt purchase session bestellung rechnung pedido commande")
PROFILE = words_of(
    "age gender sex country city state region occupation job language segment income location education household kids "
    "children family marital land alter geschlecht stadt"
)
LIST = words_of("genre genres category categories tag tags keyword keywords ingredients cast labels")
LONG_NAMES = words_of("property attribute attr feature field")
EVENT_WEIGHTS = {
    0.2: words_of(
        "view views click clicks pv impression detail visit listen play played seen open browse vista visto visita "
        "clic klick ansicht vue visualização visualizzazione"
    ),
    0.5: words_of(
        "cart addtocart basket fav favorite favourite like wishlist save share add bookmark watch watched carrito "
        "carrinho carrello panier warenkorb merkzettel"
    ),
    1.0: words_of(
        "buy bought purchase purchased transaction order ordered sale checkout paid rent download install read compra "
        "comprado kauf gekauft achat acheté acquisto"
    ),
}
UNDONE = words_of(
    "return returned returns refund refunded voided void cancel cancelled canceled remove removed delete deleted "
    "unlike dislike chargeback storniert storno retoure retour annulé annule cancelado devuelto devolución"
)
NOBODY = words_of("0 -1 guest anonymous unknown null none na n/a gast invité")
CLOCK = words_of("time hour hourmin hours clock minute tod uhrzeit heure hora")
NO_TITLE = words_of("type category group department aisle author index section brand colour color publisher")
CATEGORY = words_of("year category aisle department group genre brand class style section")
NUMBERED = RATING | QUANTITY | TIME  # names of numbers that no table describes
AMOUNT = NUMBERED | PLAY | PRICE  # names of numbers that are no ids
NO_RATING = (
    ID | NO_ID | TIME | NO_TIME | CLOCK | ORDINAL | QUANTITY | USER | ITEM | ORDER | PROFILE | LIST | PLAY | PRICE
)
"""Names of numbers that are no ratings."""
