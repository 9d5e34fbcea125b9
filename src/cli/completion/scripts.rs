//! The scripts. All ask `bk-sync __complete -- WORDS`, so they need no change with a new version.

/// For bash, from 3.2 on. It splits words at `=` and `:`, so those are put together again, and the
/// part that it takes for done is cut off the answers.
pub(super) const BASH: &str = r#"# bash completion for bk-sync
_bk_sync() {
    local full='' glued='' word line value
    local words=()
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ ${#words[@]} -gt 0 && ( -n $glued || $word == '=' || $word == ':' || $word == '://' ) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words[${#words[@]}]=$word
        fi
        glued=''
        if [[ $word == '=' || $word == ':' || $word == '://' ]]; then glued=1; fi
    done
    if [[ ${#words[@]} -gt 0 ]]; then full=${words[${#words[@]}-1]}; fi
    local typed=${COMP_WORDS[COMP_CWORD]}
    if [[ $typed == '=' || $typed == ':' ]]; then typed=''; fi
    local done=${full%"$typed"}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) COMPREPLY=(); compopt -o filenames 2>/dev/null
                while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$typed") ;;
            :directories) COMPREPLY=(); compopt -o filenames 2>/dev/null
                while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -d -- "$typed") ;;
            *) value=${line%%$'\t'*}; COMPREPLY+=("${value#"$done"}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
}
complete -F _bk_sync bk-sync
"#;

/// For zsh, as a file of `fpath` or to be sourced.
pub(super) const ZSH: &str = r#"#compdef bk-sync
# zsh completion for bk-sync
_bk_sync() {
    local line value
    local -a found lines
    lines=("${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        case $line in
            :files) _files; return ;;
            :directories) _files -/; return ;;
            *) value=${line%%$'\t'*}; found+=("${value//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    if (( ${#found} )); then _describe -t values 'bk-sync' found; fi
}
if [[ "${funcstack[1]}" == _bk-sync || "${funcstack[1]}" == _bk_sync ]]; then
    _bk_sync "$@"
else
    compdef _bk_sync bk-sync
fi
"#;

/// For fish.
pub(super) const FISH: &str = r"# fish completion for bk-sync
function __bk_sync_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (command $words[1] __complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':directories'
                __fish_complete_directories (commandline -ct) ''
            case '*'
                echo $line
        end
    end
end
complete -c bk-sync -f -a '(__bk_sync_complete)'
";
