"""Measured beside ours: presidio's pattern recognisers, and the examples in python-stdnum's documents."""

import doctest
import importlib
import sys
import time

EXAMPLES = [
    ("[IBAN]", "stdnum.iban", ""), ("[BIC]", "stdnum.bic", "swift "), ("[UK_NHS]", "stdnum.gb.nhs", "NHS "),
    ("[US_SSN]", "stdnum.us.ssn", "SSN "), ("[US_ITIN]", "stdnum.us.itin", "ITIN "), ("[US_EIN]", "stdnum.us.ein", "EIN "),
    ("[ABA_ROUTING]", "stdnum.us.rtn", "routing "), ("[CA_SIN]", "stdnum.ca.sin", "SIN "), ("[BR_CPF]", "stdnum.br.cpf", "CPF "),
    ("[MX_CURP]", "stdnum.mx.curp", ""), ("[CL_RUT]", "stdnum.cl.rut", "RUT "), ("[AR_CUIT]", "stdnum.ar.cuit", "CUIT "),
    ("[IE_PPS]", "stdnum.ie.pps", "PPS "), ("[DE_TAX_ID]", "stdnum.de.idnr", ""), ("[FR_NIR]", "stdnum.fr.nir", ""),
    ("[IT_CODICE_FISCALE]", "stdnum.it.codicefiscale", ""), ("[ES_NIF]", "stdnum.es.dni", ""), ("[ES_NIF]", "stdnum.es.nie", ""),
    ("[PT_NIF]", "stdnum.pt.nif", "NIF "), ("[NL_BSN]", "stdnum.nl.bsn", "BSN "), ("[BE_NRN]", "stdnum.be.nn", ""),
    ("[CH_AHV]", "stdnum.ch.ssn", ""), ("[PL_PESEL]", "stdnum.pl.pesel", ""), ("[CZ_RC]", "stdnum.cz.rc", ""),
    ("[RO_CNP]", "stdnum.ro.cnp", ""), ("[SE_PERSONNUMMER]", "stdnum.se.personnummer", ""),
    ("[NO_FODSELSNUMMER]", "stdnum.no.fodselsnummer", ""), ("[FI_HETU]", "stdnum.fi.hetu", ""), ("[TR_TCKN]", "stdnum.tr.tckimlik", ""),
    ("[IN_AADHAAR]", "stdnum.in_.aadhaar", "aadhaar "), ("[IN_PAN]", "stdnum.in_.pan", ""), ("[CN_RIC]", "stdnum.cn.ric", ""),
    ("[KR_RRN]", "stdnum.kr.rrn", ""), ("[AU_TFN]", "stdnum.au.tfn", "TFN "), ("[ZA_ID]", "stdnum.za.idnr", ""),
    ("[COIN_ADDRESS]", "stdnum.bitcoin", ""),
]


def examples():
    for label, name, word in EXAMPLES:
        module = importlib.import_module(name)
        for example in doctest.DocTestParser().get_examples(module.__doc__):
            source = example.source.strip()
            if not source.startswith("validate("):
                continue
            value = source[len("validate("):].split(")")[0].split(",")[0].strip("'\"")
            right = "wrong" if example.exc_msg else "right"
            print(label, right, word + value, sep="\t")


def speed():
    import logging

    logging.disable(logging.CRITICAL)
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self):
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

        def load(self):
            pass

    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    registry.recognizers = [one for one in registry.recognizers if "Spacy" not in type(one).__name__]
    engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
    text = sys.stdin.read()
    engine.analyze(text=text[:1000], language="en")
    # A request's size: on longer texts it is slower.
    parts = [text[at:at + 4000] for at in range(0, len(text), 4000)]
    begin = time.perf_counter()
    found = sum(len(engine.analyze(text=part, language="en")) for part in parts)
    took = time.perf_counter() - begin
    print(len(text.encode()) / took / 1e6, found, sep="\t")


{"examples": examples, "speed": speed}[sys.argv[1]]()
