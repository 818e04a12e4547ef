"""Which words of View Position and View Code name a frontal view, and which name another one.

The defined terms of PS3.3 C.8.11.5.1.1 and C.8.1.1.1, the SNOMED CT meanings of CID 4010, plain language, and the words
of the languages that stations write.
"""

import re

from worker.screening.phrases import UNKNOWN, kinds, vocabulary

#: A view of another name; beside a frontal one (`AP LAT`, `AP AXIAL`) it leaves open what is meant.
#: An oblique one is oblique whatever stands beside it.
_FRONTAL, _ANOTHER, _OBLIQUE, _BESIDE = "frontal", "another", "oblique", "beside"

_KINDS = vocabulary(
    {
        _FRONTAL: """
        ap, pa, a p, p a, antero posterior, postero anterior, anteroposterior, posteroanterior, anterior posterior,
        posterior anterior, frontal, front, coronal, dv, vd, dorsoventral, ventrodorsal, dorso ventral, ventro dorsal,
        posteroanteriore, anteroposteriore, postero anteriore, antero posteriore, frontale, antero posterieur,
        postero anterieur, anteroposterieur, posteroanterieur, face, de face, frente, de frente, anteroposteriorni,
        zadopredni, predozadni, predni, przednio tylna, tylno przednia, przednio tylne, tylno przednie, przodotylna,
        tylnoprzednia, frontaal, voorachterwaarts, on arka, arka on, прямая, передняя, задняя, прямой, передне задняя,
        задне передняя, переднезадняя, заднепередняя, πλ, προσθιοπισθια, οπισθοπροσθια, κατα μετωπο, 正位, 后前位,
        前后位, 後前位, 前後位, 正面, 정면, 후전, 전후
        """,
        _ANOTHER: """
        ll, rl, lat, lateral, laterals, llat, rlat, latl, latr, left lateral, right lateral, latero lateral,
        laterolateral, lateral projection, cross table lateral, horizontal beam lateral, side view, sideview,
        mediolateral, medio lateral, lateromedial, latero medial, lateral medial, sagittal, sagittale, laterale,
        laterales, lateralis, lateralt, lateraal, seitlich, seitliche, seite, seitenaufnahme, profil, de profil,
        profil gauche, profil droit, perfil, profilo, zijdelings, dwars, boczna, boczne, boczny, bocny, bocna, bocni,
        bokom, sidobild, sida, sidebilde, sidevisning, sivukuva, oldalirany, oldal, yan, yan grafi, боковая, боковой,
        боковые, сбоку, πλαγια, προφιλ, 侧位, 側位, 側面, 측면, axial, axial projection, axiale, axiaal, mlo, cc, ml,
        lm, lmo, xccl, xccm, fb, sio, iso, slo, medio lateral oblique, latero medial oblique, cranio caudal,
        caudo cranial, exaggerated cranio caudal, oblique cranio caudal, oblique caudo cranial, tangential,
        submentovertical, verticosubmental, occlusal, occlusal projection, parietoacanthial, acanthioparietal,
        orbitoparietal, parieto orbital, plantodorsal, dorsoplantar, аксиальная, αξονικη, 轴位, 軸位, lld, rld,
        lateral decubitus, left lateral decubitus, right lateral decubitus, decubitus lateral
        """,
        _OBLIQUE: """
        oblique, oblique projection, obl, obliques, rlo, llo, rao, lao, rpo, lpo, left oblique, right oblique,
        lateral oblique, medial oblique, frontal oblique, antero posterior oblique, postero anterior oblique,
        ap oblique, pa oblique, oblique axial, frontal oblique axial, sagittal oblique axial, left anterior oblique,
        right anterior oblique, left posterior oblique, right posterior oblique, schrag, schraege, schraeg, schrage,
        schragaufnahme, obliqua, obliquo, obliqua destra, oblicua, oblicuo, oblicuas, schuin, schuine, skosna, skosne,
        skosny, sikma, sikmy, sned, snedbild, skra, skratt, vino, ferde, oblik, косая, косой, косые, λοξη, λοξες,
        斜位, 사위, 사방향
        """,
        _BESIDE: """
        left, right, l, r, lt, rt, view, views, v, projection, proj, position, erect, standing, upright, sitting,
        supine, prone, portable, mobile, bedside, inspiration, expiration, standard, chest, thorax, x ray, xray, of,
        the, decubitus, decubito, in, links, rechts, linke, rechte, stehend, liegend, im stehen, im liegen, aufnahme,
        strahlengang, gauche, droite, droit, debout, couche, incidence, izquierda, izquierdo, derecha, derecho, izq,
        der, proyeccion, de, pie, esquerda, esquerdo, direita, direito, incidencia, em, sinistra, sinistro, destra,
        destro, sx, dx, proiezione, in piedi, lewa, lewe, lewy, prawa, prawe, prawy, projekcja, zdjecie, leva, levy,
        prava, pravy, projekce, snimek, vanster, hoger, venstre, hoyre, hojre, sol, sag, grafi, grafisi, projeksiyon,
        левая, левый, правая, правый, проекция, проекции, в, αριστερη, αριστερο, δεξια, δεξι, ληψη, 左, 右, 位, 像,
        侧, 側, 촬영, 좌, 우, 좌측, 우측
        """,
    }
)

#: What joins two views: `PA/LAT` and `PA & OBL` name both, `PA OBLIQUE` one that is no frontal view.
_JOINTS = re.compile(
    r"[/\\+&,;|]|\band\b|\bund\b|\bet\b|\by\b|\be\b|\boch\b|\bog\b|\ben\b|\bi\b|\bи\b|\bve\b", re.IGNORECASE
)


def names_frontal(text: str) -> bool:
    """Among the views that the text names one is frontal, or begins as one and goes on with a site's own words."""
    return "?" not in text and any(_is_frontal(kinds(part, _KINDS)) for part in _JOINTS.split(text))


def names_another_view(text: str) -> bool:
    """Every word is understood, and together they name views of which none is frontal."""
    found = set(kinds(text, _KINDS))
    if UNKNOWN in found or names_frontal(text):
        return False
    return _OBLIQUE in found or (_ANOTHER in found and _FRONTAL not in found)


def _is_frontal(found: list[str]) -> bool:
    if _ANOTHER in found or _OBLIQUE in found:
        return False
    return found[:1] == [_FRONTAL] or (_FRONTAL in found and UNKNOWN not in found)
