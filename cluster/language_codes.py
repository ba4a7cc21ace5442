"""What checkpoints call languages: ISO 639-1 codes to those of NLLB and OPUS-MT. Knows no model."""

import re

# NLLB-200's code of each ISO 639-1 code (FLORES-200: ISO 639-3 and script).
_NLLB = """
af afr_Latn am amh_Ethi ar arb_Arab as asm_Beng az azj_Latn be bel_Cyrl bg bul_Cyrl bn ben_Beng bo bod_Tibt bs bos_Latn ca cat_Latn
cs ces_Latn cy cym_Latn da dan_Latn de deu_Latn el ell_Grek en eng_Latn eo epo_Latn es spa_Latn et est_Latn eu eus_Latn fa pes_Arab
fi fin_Latn fo fao_Latn fr fra_Latn ga gle_Latn gd gla_Latn gl glg_Latn gu guj_Gujr ha hau_Latn he heb_Hebr hi hin_Deva hr hrv_Latn
ht hat_Latn hu hun_Latn hy hye_Armn id ind_Latn ig ibo_Latn is isl_Latn it ita_Latn ja jpn_Jpan jv jav_Latn ka kat_Geor kk kaz_Cyrl
km khm_Khmr kn kan_Knda ko kor_Hang ku kmr_Latn ky kir_Cyrl lb ltz_Latn ln lin_Latn lo lao_Laoo lt lit_Latn lv lvs_Latn mg plt_Latn
mi mri_Latn mk mkd_Cyrl ml mal_Mlym mn khk_Cyrl mr mar_Deva ms zsm_Latn mt mlt_Latn my mya_Mymr nb nob_Latn ne npi_Deva nl nld_Latn
nn nno_Latn no nob_Latn ny nya_Latn oc oci_Latn or ory_Orya pa pan_Guru pl pol_Latn ps pbt_Arab pt por_Latn ro ron_Latn ru rus_Cyrl
rw kin_Latn sa san_Deva sd snd_Arab si sin_Sinh sk slk_Latn sl slv_Latn sm smo_Latn sn sna_Latn so som_Latn sq als_Latn sr srp_Cyrl
st sot_Latn su sun_Latn sv swe_Latn sw swh_Latn ta tam_Taml te tel_Telu tg tgk_Cyrl th tha_Thai ti tir_Ethi tk tuk_Latn tl tgl_Latn
tn tsn_Latn tr tur_Latn ts tso_Latn tt tat_Cyrl ug uig_Arab uk ukr_Cyrl ur urd_Arab uz uzn_Latn vi vie_Latn wo wol_Latn xh xho_Latn
yi ydd_Hebr yo yor_Latn zh zho_Hans zu zul_Latn
"""
NLLB: dict[str, str] = dict(re.findall(r"(\w+)\s+(\w+)", _NLLB))

# Where OPUS-MT's ISO 639-3 code is another than NLLB's, and the names of its first models.
_OPUS = {
    **{"ar": ("ara",), "az": ("aze", "aze_Latn"), "et": ("est",), "fa": ("fas",), "ja": ("jap",), "ku": ("kur",), "lv": ("lav",)},
    **{
        "mg": ("mlg",),
        "mn": ("mon",),
        "ms": ("msa", "zsm_Latn"),
        "ne": ("nep",),
        "no": ("nor", "nob", "nb"),
        "or": ("ori",),
        "ps": ("pus",),
    },
    **{"sq": ("sqi",), "sw": ("swa",), "uz": ("uzb", "uzb_Latn"), "yi": ("yid",), "zh": ("cmn_Hans", "cmn", "zho")},
}


def base_code(language: str) -> str:
    """`pt-BR`, `zh_CN` → `pt`, `zh`."""
    return language.strip().lower().replace("_", "-").partition("-")[0]


def names_of(language: str) -> tuple[str, ...]:
    """Every code by which OPUS-MT may call an ISO 639-1 language, likeliest first."""
    nllb = NLLB.get(language)
    return tuple(dict.fromkeys((language, *_OPUS.get(language, ()), *((nllb, nllb[:3]) if nllb else ()))))


def iso_code(name: str | None) -> str | None:
    """The ISO 639-1 code of a language that a checkpoint names in any of these ways; None for a group of languages."""
    return next((language for language in NLLB if name and name in names_of(language)), None)
