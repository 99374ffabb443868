"""The words of ssh_config(5): those that sipdeploy follows, ignores and refuses. Pure.

`ssh -G` prints every word with its value. No word that decides how a host is reached or trusted
is passed over in silence.
"""

from collections.abc import Callable, Mapping, Sequence

Values = Mapping[str, Sequence[str]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What `ssh -G` prints, and what sipdeploy does in the same way.
FOLLOWED = _words(
    """
    addressfamily bindaddress certificatefile checkhostip ciphers connecttimeout
    globalknownhostsfile host hostkeyalgorithms hostkeyalias hostname identitiesonly
    identityagent identityfile kexalgorithms macs port proxycommand proxyjump
    pubkeyacceptedalgorithms pubkeyacceptedkeytypes requiredrsasize revokedhostkeys user
    userknownhostsfile
    """
    # `ssh -G` follows these itself.
    """
    canonicaldomains canonicalizefallbacklocal canonicalizehostname canonicalizemaxdots
    canonicalizepermittedcnames ignoreunknown tag
    """
)
# These change the session of a person, log lines, or logins that need a person.
WITHOUT_EFFECT = _words(
    """
    addkeystoagent batchmode casignaturealgorithms challengeresponseauthentication
    channeltimeout clearallforwardings compression connectionattempts controlmaster
    controlpersist dynamicforward enableescapecommandline enablesshkeysign escapechar
    exitonforwardfailure fingerprinthash forkafterauthentication forwardagent forwardx11
    forwardx11timeout forwardx11trusted gatewayports gssapiauthentication gssapiclientidentity
    gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey
    gssapiserveridentity gssapitrustdns hashknownhosts hostbasedacceptedalgorithms
    hostbasedkeytypes ipqos kbdinteractiveauthentication kbdinteractivedevices localcommand
    localforward loglevel logverbose numberofpasswordprompts obscurekeystroketiming
    passwordauthentication permitlocalcommand permitremoteopen protocol
    preferredauthentications rekeylimit remotecommand remoteforward requesttty
    securitykeyprovider sendenv serveralivecountmax serveraliveinterval sessiontype setenv
    smartcarddevice stdinnull streamlocalbindmask streamlocalbindunlink syslogfacility
    tcpkeepalive tunnel tunneldevice updatehostkeys useprivilegedport versionaddendum
    visualhostkey warnweakcrypto xauthlocation
    """
)
# word -> the values without effect, and what a person can write instead
REFUSED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "bindinterface": ((), "name its address with `BindAddress`"),
    "knownhostscommand": (("none",), "write the keys into a file of `UserKnownHostsFile`"),
    "proxyusefdpass": (("no",), "use `ProxyJump`, or a ProxyCommand that passes the data itself"),
    "pubkeyauthentication": (
        ("yes", "true", "unbound", "host-bound"),
        "sipdeploy logs in only with a key: allow it for this host",
    ),
    "refuseconnection": ((), "allow the connection for this host"),
}
# word -> the values without effect, and what to say after a failure
Hints = Mapping[str, tuple[tuple[str, ...], str]]
AT_LOGIN: Hints = {
    "controlpath": ((), "sipdeploy does not share a connection of `ssh`"),
    "hostbasedauthentication": (("no",), "sipdeploy logs in only with a key"),
    "pkcs11provider": ((), "`ssh-add -s {value}` puts its keys into the agent"),
}
AT_TRUST: Hints = {
    "nohostauthenticationforlocalhost": (("no",), "sipdeploy checks the key of every host"),
    "stricthostkeychecking": (
        ("ask", "yes", "true"),
        "sipdeploy accepts a key only after a person has recorded it",
    ),
    "verifyhostkeydns": (("no", "false"), "sipdeploy takes no host key from the DNS"),
}
KNOWN = FOLLOWED | WITHOUT_EFFECT | REFUSED.keys() | AT_LOGIN.keys() | AT_TRUST.keys()


def refused(values: Values) -> list[tuple[str, str, str]]:
    """The words that sipdeploy cannot follow: word, value, and the alternative."""
    return [
        (word, value, fix)
        for word, (harmless, fix) in REFUSED.items()
        for value in values.get(word, ())[:1]
        if value not in (*harmless, "none")
    ]


def hints(values: Values, words: Hints) -> tuple[str, ...]:
    """A note for each word that may explain a failure, because `ssh` follows it and we do not."""
    return tuple(
        f"ssh_config has `{word} {value}`: {text.format(value=value)}"
        for word, (harmless, text) in words.items()
        for value in values.get(word, ())[:1]
        if value not in (*harmless, "none")
    )


def unknown(values: Values, defaults: Callable[[], Values]) -> tuple[str, ...]:
    """A note for each word that sipdeploy does not know and that has been set.

    Asks for the defaults only if there is an unknown word: a newer `ssh` prints new ones.
    """
    words = sorted(values.keys() - KNOWN)
    usual = defaults() if words else {}
    return tuple(
        f"ssh_config has `{word} {values[word][0]}`, which sipdeploy does not know"
        for word in words
        if values[word] != usual.get(word)
    )


def lines_with(word: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Where the files of the configuration set a word: `file:line: text`."""
    return tuple(
        f"{path}:{number}: {line.strip()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if line.replace("=", " ").split()[:1] and line.replace("=", " ").split()[0].lower() == word
    )
