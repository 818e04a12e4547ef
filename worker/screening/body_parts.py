"""Which words of Body Part Examined and Anatomic Region name the chest, and which name another part of the body.

The defined terms of PS3.16 Annex L, the SNOMED CT meanings of CID 4 and CID 4031, plain language, and the words of the
languages that stations write. Words that may mean the chest as well as another part (`BRUST`, `TRUNK`, `SPINE`) are
in neither list: such an image is screened.
"""

from worker.screening.phrases import UNKNOWN, kinds, vocabulary, words

#: Letters with which, or around which, a word names the chest or something in it, also when words are run together
#: (`CHESTABDOMEN`, `NECKCHESTABDPELV`, `HEMITHORAX`).
_CHEST_ANYWHERE = ("chest", "thora", "torax", "babygram", "wholebody", "胸", "肺", "흉", "가슴")
_CHEST_BEGINNINGS = (
    *("torac", "torak", "lung", "pulm", "poumon", "pneumo", "polmon", "pluc", "plic", "pljuc", "plaman", "keuhko"),
    *("sternum", "mediast", "heart", "herz", "cardi", "kardi", "coraz", "brust", "borst", "bryst", "brost", "hrudn"),
    *("mellkas", "tudo", "akcig", "легк", "легоч", "леген", "грудн", "торак", "θωρα", "πνευμ"),
)
_CHEST_WORDS = vocabulary(
    {
        "chest": """
        cxr, ch, thx, rib, ribs, ribcage, rib cage, costal, costae, tspine, t spine, tlspine, bws, dorsal spine,
        whole body, entire body, poitrine, gril costal, cotes, pecho, peito, petto, costillas, costelas, coste,
        ribben, klatka piersiowa, zebra, hrud, gogus, gogus kafesi, грудь, огк, органы грудной клетки, prsni kos,
        grudni kos, piept, rintakeha, 폐, صدر, الصدر, חזה, nguc, phoi, dada, paru
        """
    }
)

#: Parts above the chest. With one below it a phrase spans the chest (`NECK TO PELVIS`) and excludes nothing.
_ABOVE = """
head, skull, cranium, cranial, calvarium, brain, cerebrum, cerebral, cerebellum, intracranial, face, facial,
facial bone, facial bones, nose, nasal, nasal bone, nasal bones, sinus, sinuses, paranasal sinus, paranasal sinuses,
pns, orbit, orbits, orbital, eye, eyes, eyelid, cornea, ear, ears, iac, eac, internal auditory canal,
external auditory canal, mastoid, mastoids, mastoid bone, petrous bone, temporal bone, sella, sella turcica,
optic canal, zygoma, zygomatic arch, jaw, jaws, jaw region, mandible, maxilla, maxillofacial, tmj, temporomandibular,
temporomandibular joint, tmjoint, mouth, tongue, tooth, teeth, dental, dentition, submandibular gland,
submandibulargland, parotid, parotid gland, parotidgland, salivary gland, lacrimal gland, scalp, cheek, pituitary,
headneck, head and neck, neck, pharynx, nasopharynx, hypopharynx, larynx, thyroid, parathyroid, carotid,
carotid artery, soft tissue neck, adenoids, epiglottis, cspine, c spine, cervical spine, cervical vertebra,
cervical vertebrae, cervical vertebral column, cervical, odontoid, dens, atlas axis, kopf, schadel, schaedel, gehirn,
gesicht, gesichtsschadel, gesichtsschaedel, nase, nasenbein, nasennebenhohlen, nasennebenhoehlen, nnh, kiefer,
unterkiefer, oberkiefer, kiefergelenk, zahn, zahne, zaehne, auge, ohr, hals, hws, halswirbelsaule, halswirbelsaeule,
schilddruse, schilddruese, kehlkopf, tete, crane, cerveau, visage, nez, os propres du nez, sinus de la face, machoire,
mandibule, dents, oeil, oreille, cou, cavum, rachis cervical, colonne cervicale, cabeza, craneo, cerebro, nariz,
huesos propios, senos paranasales, senos, mandibula, maxilar, diente, dientes, ojo, orbita, orbitas, oido, cuello,
columna cervical, cervicales, cabeca, cranio, rosto, seios da face, seios paranasais, cavum faringeo, dente, dentes,
olho, ouvido, pescoco, coluna cervical, testa, encefalo, faccia, naso, ossa nasali, seni paranasali, mandibola, denti,
occhio, orecchio, collo, rachide cervicale, colonna cervicale, hoofd, schedel, hersenen, gezicht, neus, neusbijholten,
kaak, tanden, oog, oor, nek, cwk, cervicale wervelkolom, glowa, czaszka, mozg, twarz, zatoki, zatoki przynosowe,
zuchwa, zeby, oko, ucho, szyja, kregoslup szyjny, hlava, lebka, mozek, vedlejsi nosni dutiny, celist, zuby, krk,
krcni pater, kraniun, kranie, huvud, skalle, hjarna, ansikte, bihalor, kake, tander, nacke, halsrygg, halskotpelare,
hode, hoved, kranium, kallo, koponya, fej, nyak, craniu, kafa, kafatasi, beyin, yuz, burun, sinusler, paranazal sinus,
cene, goz, kulak, boyun, servikal vertebra, servikal, голова, череп, мозг, лицо, нос, пазухи, околоносовые пазухи,
придаточные пазухи носа, ппн, челюсть, зубы, глаз, ухо, шея, шейный отдел, шейный отдел позвоночника, шоп, κεφαλη,
κεφαλι, κρανιο, εγκεφαλος, προσωπο, μυτη, ιγμορεια, παραρρινιοι, δοντια, αυχενας, λαιμος, αμσσ, 头, 头部, 头颅, 颅骨,
颅脑, 脑, 面部, 面颅, 鼻, 鼻骨, 鼻窦, 副鼻窦, 颌骨, 下颌骨, 牙, 牙齿, 眼, 眼眶, 耳, 乳突, 颈, 颈部, 颈椎, 甲状腺, 頭,
頭部, 頭顱, 顱骨, 鼻竇, 頸, 頸部, 頸椎, 頚部, 頚椎, 頭蓋, 頭蓋骨, 顔面, 顔面骨, 副鼻腔, 顎, 顎関節, 歯, 眼窩, 머리,
두부, 두개골, 뇌, 얼굴, 안면, 코, 부비동, 턱, 치아, 눈, 귀, 목, 경부, 경추, 갑상선
"""

#: Parts below the chest.
_BELOW = """
abdomen, abdominal, abd, abdo, belly, kub, abdomenpelvis, abdomen and pelvis, abdompelvis, abdpelvis, intraabdominal,
abdominopelvic, intraabdominopelvic, retroperitoneum, peritoneum, flank, epigastric region, epigastrium,
hypogastric region, hypogastrium, hypochondriac region, umbilical region, right upper quadrant, left upper quadrant,
right lower quadrant, left lower quadrant, quadrant, abdominal aorta, liver, hepatic, gallbladder, gall bladder,
bile duct, biliary tract, biliary, spleen, splenic, pancreas, kidney, kidneys, renal, ureter, ureters,
upper urinary tract, urinary tract, adrenal, adrenal gland, bladder, urinary bladder, urethra, stomach, gastric,
duodenum, jejunum, ileum, small bowel, small intestine, smallintestine, large intestine, large bowel, bowel, colon,
sigmoid, rectum, anus, anorectal, appendix, ovary, uterus, cervix uteri, fallopian tube, vagina, vulva, prostate,
penis, testis, scrotum, fetus, pelvis, pelvic, bony pelvis, endopelvic, intrapelvic, perineum, groin, inguinal region,
inguinal, buttock, gluteal region, hip, hips, hip region, hip joint, hipjoint, acetabulum, sacrum, sacral,
sacral spine, sspine, sacrococcygeal spine, coccyx, tailbone, si joint, si joints, sijoint, sacroiliac,
sacroiliac joint, sacroiliac joints, ilium, iliac, iliac bone, lspine, l spine, ls spine, lsspine, l s spine, lumbar,
lumbar spine, lumbar region, lumbar vertebra, lumbar vertebrae, lumbar vertebral column, lumbosacral,
lumbosacral spine, lumbo sacral spine, leg, legs, lower leg, lower limb, lower limbs, lower extremity,
lower extremities, lowerextremity, lower ext, low exm, lowerleg, upperleg, bone of lower limb, muscle of lower limb,
pelvis and lower extremities, thigh, thighs, upper leg, femur, femora, femoral, knee, knees, knee joint, patella,
kneecap, popliteal fossa, tibia, fibula, tib fib, tibfib, tibia fibula, tibia and fibula, calf, shin, ankle, ankles,
ankle joint, anklejoint, foot, feet, forefoot, hindfoot, midfoot, heel, calcaneus, os calcis, tarsal joint, tarsal,
tarsus, metatarsus, metatarsal, metatarsals, sesamoid bones of foot, toe, toes, great toe, hallux, bauch, oberbauch,
unterbauch, abdomenubersicht, abdomenuebersicht, leber, galle, gallenblase, milz, niere, nieren, blase, harnblase,
magen, darm, becken, beckenubersicht, beckenuebersicht, hufte, huefte, huften, hueften, huftgelenk, hueftgelenk, isg,
kreuzbein, steissbein, lws, lendenwirbelsaule, lendenwirbelsaeule, bein, beine, ganzbein, oberschenkel, unterschenkel,
knie, kniegelenk, kniescheibe, schienbein, wadenbein, sprunggelenk, oberes sprunggelenk, osg, fuss, fusse, fuesse,
vorfuss, mittelfuss, ruckfuss, rueckfuss, ferse, fersenbein, zeh, zehe, zehen, grosszehe, ventre, foie, rein, reins,
vessie, estomac, intestin, bassin, hanche, hanches, articulation de la hanche, sacro iliaque, sacro iliaques,
rachis lombaire, colonne lombaire, lombaire, rachis lombo sacre, jambe, jambes, cuisse, genou, genoux, rotule,
cheville, chevilles, pied, pieds, avant pied, talon, calcaneum, orteil, orteils, membre inferieur, membres inferieurs,
vientre, higado, rinon, rinones, vejiga, estomago, pelvis osea, cadera, caderas, sacro, coccix, columna lumbar,
columna lumbosacra, pierna, piernas, muslo, rodilla, rodillas, rotula, tobillo, tobillos, pie, pies, calcaneo,
dedo del pie, dedos del pie, ortejo, miembro inferior, extremidad inferior, abdome, barriga, figado, rins, bexiga,
bacia, pelve, quadril, quadris, anca, coluna lombar, coluna lombossacra, perna, pernas, coxa, joelho, joelhos,
tornozelo, tornozelos, pes, calcanhar, dedo do membro inferior, addome, addominale, fegato, reni, vescica, stomaco,
bacino, pelvi, anche, sacroiliache, rachide lombare, colonna lombare, rachide lombosacrale, gamba, gambe, coscia,
femore, ginocchio, ginocchia, caviglia, caviglie, piede, piedi, tallone, calcagno, alluce, arto inferiore, buik, nier,
maag, bekken, heup, heupen, lwk, lumbale wervelkolom, benen, bovenbeen, onderbeen, knieen, enkel, enkels, voet,
voeten, voorvoet, hiel, tenen, brzuch, jama brzuszna, watroba, nerki, miednica, biodro, biodra, staw biodrowy,
kregoslup ledzwiowy, kregoslup ledzwiowo krzyzowy, noga, udo, kosc udowa, kolano, kolana, staw kolanowy, podudzie,
staw skokowy, kostka, stopa, stopy, pieta, paluch, palce stopy, bricho, jatra, ledviny, panev, kycel, kycle,
kycelni kloub, bederni pater, noha, nohy, stehno, koleno, kolena, kolenni kloub, berec, kotnik, hlezno, chodidlo,
palec nohy, buk, bukoversikt, njure, backen, hoft, hofter, hoftled, hoftleder, landrygg, larben, kna, knan, knaled,
underben, fotled, fot, fotter, hofte, knae, kne, ankel, fod, fodder, vatsa, lonkka, polvi, nilkka, jalka, lantio,
csipo, terd, labfej, medence, genunchi, glezna, picior, bazin, karin, batin, karaciger, bobrek, kalca, pelvis kemigi,
lomber, lomber vertebra, bacak, uyluk, diz, ayak bilegi, ayak, topuk, живот, брюшная полость, печень, почки, таз,
кости таза, тазобедренный, тазобедренный сустав, тазобедренные суставы, поясничный отдел,
поясничный отдел позвоночника, поп, нога, бедро, бедренная кость, колено, коленный сустав, коленные суставы, голень,
голеностопный сустав, стопа, стопы, пятка, пяточная кость, κοιλια, ηπαρ, νεφροι, λεκανη, πυελος, ισχιο, ισχια,
οσφυικη μοιρα, οσφυς, οσφυικη, ομσσ, ποδι, ποδια, μηρος, μηριαιο, γονατο, γονατα, κνημη, ποδοκνημικη, αστραγαλος,
ακρο ποδι, πτερνα, 腹, 腹部, 腹平片, 肝, 肾, 腎, 膀胱, 胃, 结肠, 骨盆, 骨盤, 髋, 髋部, 髋关节, 髖, 髖關節, 股関節,
骶髂关节, 骶骨, 尾骨, 骶尾椎, 腰椎, 腰骶椎, 腿, 下肢, 下肢全长, 大腿, 大腿骨, 股骨, 膝, 膝部, 膝关节, 膝關節, 膝関節,
髌骨, 膝蓋骨, 小腿, 下腿, 胫骨, 腓骨, 胫腓骨, 踝, 踝部, 踝关节, 踝關節, 足関節, 足, 足部, 脚, 跟骨, 踵骨, 脚趾, 足趾,
足指, 복부, 배, 간, 신장, 방광, 골반, 고관절, 엉덩이, 천골, 요추, 요천추, 다리, 하지, 대퇴, 대퇴골, 무릎, 슬관절,
정강이, 발목, 발, 발가락
"""

#: Parts beside the chest.
_BESIDE = """
arm, arms, upper arm, upper limb, upper limbs, upper extremity, upper extremities, upperextremity, upper ext, up exm,
upperarm, bone of upper limb, muscle of upper limb, extremity, extremities, limb, shoulder, shoulders, shoulder joint,
acromioclavicular joint, acjoint, ac joint, ac joints, acromioclavicular joints, glenohumeral joint, scapula,
shoulder blade, clavicle, clavicles, collar bone, collarbone, axilla, armpit, humerus, elbow, elbows, elbow joint,
elbowjoint, forearm, radius, ulna, radius and ulna, radius ulna, wrist, wrists, wrist joint, wristjoint, carpus,
carpal, scaphoid, navicular, hand, hands, metacarpus, metacarpal, metacarpals, finger, fingers, digit, digits,
index finger, ring finger, thumb, thumbs, breast, breasts, mamma, mammae, mammary gland,
upper outer quadrant of breast, upper inner quadrant of breast, lower outer quadrant of breast,
lower inner quadrant of breast, schulter, schultern, schultergelenk, schulterblatt, schlusselbein, schluesselbein,
ac gelenk, oberarm, ellenbogen, ellenbogengelenk, ellbogen, unterarm, handgelenk, handgelenke, handwurzel, mittelhand,
kahnbein, hande, haende, daumen, mammographie, epaule, epaules, omoplate, clavicule, bras, coude, coudes, avant bras,
poignet, poignets, mains, main gauche, main droite, la main, doigt, doigts, pouce, membre superieur, sein, seins,
hombro, hombros, escapula, omoplato, clavicula, brazo, codo, codos, antebrazo, muneca, munecas, mano, manos, dedo,
dedos, dedo de la mano, pulgar, miembro superior, extremidad superior, mama, mamas, seno, ombro, ombros, braco,
cotovelo, cotovelos, antebraco, punho, punhos, mao, maos, polegar, membro superior, spalla, spalle, scapola,
clavicola, braccio, omero, gomito, gomiti, avambraccio, polso, polsi, mani, dito, dita, pollice, arto superiore,
mammella, mammelle, schouder, schouders, schouderblad, sleutelbeen, bovenarm, elleboog, onderarm, pols, polsen,
handen, vinger, vingers, duim, bark, staw barkowy, lopatka, obojczyk, ramie, lokiec, staw lokciowy, przedramie,
nadgarstek, reka, rece, dlon, dlonie, palec, palce, kciuk, rameno, ramenni kloub, klicni kost, paze, loket,
loketni kloub, predlokti, zapesti, ruka, ruce, prst, prsty, axlar, skuldra, nyckelben, overarm, armbage, underarm,
handled, handleder, hander, fingrar, tumme, skulder, albue, handledd, olkapaa, kyynarpaa, ranne, kasi, sormi, konyok,
csuklo, kez, ujj, umar, incheietura mainii, omuz, kurek kemigi, klavikula, kol, on kol, dirsek, el bilegi, sag el,
sol el, el grafisi, parmak, meme, плечо, плечевой сустав, лопатка, ключица, рука, локоть, локтевой сустав, предплечье,
запястье, лучезапястный сустав, кисть, кисти, кисть руки, палец, пальцы, молочная железа, молочные железы, ωμος, ωμοι,
κλειδα, βραχιονας, αγκωνας, αντιβραχιο, καρπος, χερι, χερια, ακρα χειρα, δακτυλο, δακτυλα, μαστος, μαστοι, 肩, 肩部,
肩关节, 肩關節, 肩関節, 肩胛骨, 肩甲骨, 锁骨, 鎖骨, 臂, 上肢, 上臂, 上腕, 肱骨, 上腕骨, 肘, 肘部, 肘关节, 肘關節,
肘関節, 前臂, 前腕, 尺桡骨, 腕, 腕部, 腕关节, 腕關節, 手関節, 手腕, 手, 手部, 手掌, 手指, 指, 拇指, 乳腺, 乳房, 어깨,
견관절, 쇄골, 견갑골, 팔, 상지, 상완, 상완골, 팔꿈치, 주관절, 전완, 아래팔, 손목, 수근, 손, 수부, 손가락, 유방
"""

#: Words that stand beside a part and name none.
_BESIDES = """
left, right, lt, rt, l, r, both, bilateral, bilat, unilateral, ap, pa, lat, lateral, obl, oblique, oblique view,
axial, view, views, v, projection, proj, min, minimum, standing, supine, prone, erect, upright, weight, weightbearing,
bearing, frog, frogleg, stress, flexion, extension, portable, mobile, bedside, xray, x ray, x rays, xr, xrays,
radiograph, radiographs, radiography, film, series, study, exam, plain, complete, limited, bone, bones, age,
soft tissue, joint, joints, region, structure, structures, entire, body structure, body part, part, organ, upper,
lower, proximal, distal, anterior, posterior, medial, internal, external, of, the, and, or, with, without, contrast,
to, side, n, no, nr, links, linke, linker, linkes, rechts, rechte, rechter, rechtes, li, re, beide, beidseits, bds,
beider, seitlich, schrag, ebenen, in ebenen, im stehen, stehend, liegend, im liegen, rontgen, roentgen, ubersicht,
uebersicht, gelenk, und, mit, gauche, gauches, droit, droite, droits, droites, g, d, profil, incidence, incidences,
radio, radiographie, os, de, du, des, le, la, les, et, en charge, couche, debout, izquierda, izquierdo, izquierdas,
derecha, derecho, izq, der, ambas, ambos, bilaterales, lateral y, rx, radiografia, hueso, y, del, los, las, el,
esquerda, esquerdo, direita, direito, esq, dir, perfil, osso, e, do, da, dos, das, sinistra, sinistro, destra, destro,
sx, dx, lato, proiezioni, proiezione, di, il, della, dello, dell, carico, sotto carico, foto, opname, van, het, een,
en, lewa, lewy, lewe, lewej, lewego, prawa, prawy, prawe, prawej, prawego, rtg, zdjecie, staw, i, obie, leva, levy,
leve, prava, pravy, prave, vlevo, vpravo, snimek, kloub, a, vanster, vanstra, hoger, hogra, sin, dxt, bada, och,
venstre, hojre, hoyre, og, vasen, oikea, bal, jobb, stang, drept, sol, sag, grafi, grafisi, yon, yonlu, iki, eklem,
ekl, ve, левая, левый, левое, левой, левого, правая, правый, правое, правой, правого, рентген, рентгенография, снимок,
обзорная, сустав, и, в, проекция, проекции, αριστερο, αριστερη, αριστερα, αριστερος, δεξι, δεξια, δεξιο, δεξιος,
ακτινογραφια, αρθρωση, 左, 右, 双, 雙, 两, 兩, 両, 侧, 側, 部, 正位, 侧位, 側位, 斜位, 正面, 側面, 正侧位, 片, 平片,
骨, 关节, 關節, 関節, 位, 摄影, 撮影, 왼쪽, 오른쪽, 좌, 우, 좌측, 우측, 양측, 양쪽, 촬영, 측면, 정면, 관절, 부위, 부
"""

_ABOVE_KIND, _BELOW_KIND, _BESIDE_KIND, _FILLER = "above", "below", "beside", "filler"
_PARTS = vocabulary({_ABOVE_KIND: _ABOVE, _BELOW_KIND: _BELOW, _BESIDE_KIND: _BESIDE, _FILLER: _BESIDES})


def names_chest(text: str) -> bool:
    """The chest, or a part of it, is among what the text names."""
    found = words(text)
    if any(word.startswith(_CHEST_BEGINNINGS) or any(stem in word for stem in _CHEST_ANYWHERE) for word in found):
        return True
    return any(kind != UNKNOWN for kind in kinds(text, _CHEST_WORDS))


def names_another_part(text: str) -> bool:
    """Every word is understood, and together they name another part of the body and do not span the chest."""
    found = set(kinds(text, _PARTS))
    if UNKNOWN in found or {_ABOVE_KIND, _BELOW_KIND} <= found:
        return False
    return bool(found - {_FILLER})
