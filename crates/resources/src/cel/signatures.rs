//! Which functions there are, and what they take and give.
//!
//! One line per name: the ways to call it, divided by `|`. A method's receiver
//! stands before its `.`; `A` and `B` are any type.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) is_method: bool,
    /// The receiver of a method comes first.
    pub(super) params: Vec<Type>,
    pub(super) result: Type,
}

const TABLE: &str = "
!_ (bool):bool
-_ (int):int | (double):double
_==_ (A,A):bool
_!=_ (A,A):bool
_<_ ORDER
_<=_ ORDER
_>_ ORDER
_>=_ ORDER
@in (A,list<A>):bool | (A,map<A,B>):bool
_+_ (int,int):int | (uint,uint):uint | (double,double):double | (string,string):string | (bytes,bytes):bytes | (list<A>,list<A>):list<A> | (timestamp,duration):timestamp | (duration,timestamp):timestamp | (duration,duration):duration
_-_ (int,int):int | (uint,uint):uint | (double,double):double | (timestamp,timestamp):duration | (timestamp,duration):timestamp | (duration,duration):duration
_*_ (int,int):int | (uint,uint):uint | (double,double):double
_/_ (int,int):int | (uint,uint):uint | (double,double):double
_%_ (int,int):int | (uint,uint):uint
size (string):int | (bytes):int | (list<A>):int | (map<A,B>):int | string.():int | bytes.():int | list<A>.():int | map<A,B>.():int
type (A):type
dyn (A):dyn
bool (bool):bool | (string):bool
int (int):int | (uint):int | (double):int | (string):int | (timestamp):int | (duration):int
uint (uint):uint | (int):uint | (double):uint | (string):uint
double (double):double | (int):double | (uint):double | (string):double
string (string):string | (bool):string | (int):string | (uint):string | (double):string | (bytes):string | (timestamp):string | (duration):string | (url):string | (ip):string | (cidr):string
bytes (bytes):bytes | (string):bytes
timestamp (timestamp):timestamp | (string):timestamp | (int):timestamp
duration (duration):duration | (string):duration | (int):duration
contains string.(string):bool
startsWith string.(string):bool
endsWith string.(string):bool
matches (string,string):bool | string.(string):bool
charAt string.(int):string
indexOf string.(string):int | string.(string,int):int | list<A>.(A):int
lastIndexOf string.(string):int | string.(string,int):int | list<A>.(A):int
join list<string>.():string | list<string>.(string):string
lowerAscii string.():string
upperAscii string.():string
replace string.(string,string):string | string.(string,string,int):string
split string.(string):list<string> | string.(string,int):list<string>
substring string.(int):string | string.(int,int):string
trim string.():string
jsonpatch.escapeKey (string):string
reverse string.():string | list<A>.():list<A>
format string.(list<dyn>):string
strings.quote (string):string
find string.(string):string
findAll string.(string):list<string> | string.(string,int):list<string>
isSorted list<A>.():bool
sum list<A>.():A
min list<A>.():A
max list<A>.():A
sets.contains (list<A>,list<A>):bool
sets.equivalent (list<A>,list<A>):bool
sets.intersects (list<A>,list<A>):bool
getFullYear DATE
getMonth DATE
getDayOfYear DATE
getDate DATE
getDayOfMonth DATE
getDayOfWeek DATE
getHours CLOCK
getMinutes CLOCK
getSeconds CLOCK
getMilliseconds CLOCK
url (string):url
isURL (string):bool
getScheme url.():string
getHost url.():string
getHostname url.():string
getPort url.():string
getEscapedPath url.():string
getQuery url.():map<string,list<string>>
ip (string):ip | cidr.():ip
isIP (string):bool
ip.isCanonical (string):bool
family ip.():int
isUnspecified ip.():bool
isLoopback ip.():bool
isLinkLocalMulticast ip.():bool
isLinkLocalUnicast ip.():bool
isGlobalUnicast ip.():bool
cidr (string):cidr
isCIDR (string):bool
containsIP cidr.(ip):bool | cidr.(string):bool
containsCIDR cidr.(cidr):bool | cidr.(string):bool
masked cidr.():cidr
prefixLength cidr.():int
quantity (string):quantity
isQuantity (string):bool
isInteger quantity.():bool
asInteger quantity.():int
asApproximateFloat quantity.():double
sign quantity.():int
add quantity.(quantity):quantity | quantity.(int):quantity
sub quantity.(quantity):quantity | quantity.(int):quantity
isGreaterThan quantity.(quantity):bool
isLessThan quantity.(quantity):bool
compareTo quantity.(quantity):int
format.named (string):optional<format>
validate format.(string):optional<list<string>>
format.dns1123Label ():format
format.dns1123Subdomain ():format
format.dns1035Label ():format
format.dns1123LabelPrefix ():format
format.dns1123SubdomainPrefix ():format
format.dns1035LabelPrefix ():format
format.qualifiedName ():format
format.labelValue ():format
format.uri ():format
format.uuid ():format
format.byte ():format
format.date ():format
format.datetime ():format
optional.of (A):optional<A>
optional.ofNonZeroValue (A):optional<A>
optional.none ():optional<A>
hasValue optional<A>.():bool
value optional<A>.():A
or optional<A>.(optional<A>):optional<A>
orValue optional<A>.(A):A
path authorizer.(string):pathcheck
group authorizer.(string):groupcheck
serviceAccount authorizer.(string,string):authorizer
resource groupcheck.(string):resourcecheck
subresource resourcecheck.(string):resourcecheck
namespace resourcecheck.(string):resourcecheck
name resourcecheck.(string):resourcecheck
check pathcheck.(string):decision | resourcecheck.(string):decision
allowed decision.():bool
reason decision.():string
errored decision.():bool
error decision.():string
";

const ORDER: &str = "(bool,bool):bool | (int,int):bool | (int,uint):bool | (int,double):bool | (uint,uint):bool | (uint,int):bool | (uint,double):bool | (double,double):bool | (double,int):bool | (double,uint):bool | (string,string):bool | (bytes,bytes):bool | (timestamp,timestamp):bool | (duration,duration):bool";
const DATE: &str = "timestamp.():int | timestamp.(string):int";
const CLOCK: &str = "timestamp.():int | timestamp.(string):int | duration.():int";

/// The ways to call a function; none if there is no such function.
pub(super) fn overloads(name: &str) -> &'static [Overload] {
    static KNOWN: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let lines = TABLE.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(name, ways)| (name, read(ways))).collect()
    });
    known.get(name).map_or(&[], Vec::as_slice)
}

/// Whether there is a function of the name that is no method.
pub(super) fn is_global(name: &str) -> bool {
    overloads(name).iter().any(|overload| !overload.is_method)
}

fn read(ways: &str) -> Vec<Overload> {
    let ways = match ways {
        "ORDER" => ORDER,
        "DATE" => DATE,
        "CLOCK" => CLOCK,
        other => other,
    };
    ways.split(" | ").map(overload).collect()
}

fn overload(text: &str) -> Overload {
    let (head, result) = text.rsplit_once(':').unwrap_or((text, "dyn"));
    let (receiver, args) = head.split_once('(').unwrap_or((head, ""));
    let receiver = receiver.strip_suffix('.');
    let mut params: Vec<Type> = receiver.into_iter().map(type_of).collect();
    params.extend(divide(args.trim_end_matches(')')).into_iter().map(type_of));
    Overload { is_method: receiver.is_some(), params, result: type_of(result) }
}

/// The parts of a list that are divided by commas outside of `<>`.
fn divide(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

fn type_of(text: &str) -> Type {
    if let Some((outer, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        let parts: Vec<Type> = divide(inner).into_iter().map(type_of).collect();
        return match (outer, parts.as_slice()) {
            ("list", [of]) => Type::list(of.clone()),
            ("optional", [of]) => Type::optional(of.clone()),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            _ => Type::Dyn,
        };
    }
    match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::Text,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "url" => Type::Opaque("kubernetes.URL"),
        "ip" => Type::Opaque("net.IP"),
        "cidr" => Type::Opaque("net.CIDR"),
        "quantity" => Type::Opaque("kubernetes.Quantity"),
        "format" => Type::Opaque("kubernetes.NamedFormat"),
        "authorizer" => Type::Opaque("kubernetes.authorization.Authorizer"),
        "pathcheck" => Type::Opaque("kubernetes.authorization.PathCheck"),
        "groupcheck" => Type::Opaque("kubernetes.authorization.GroupCheck"),
        "resourcecheck" => Type::Opaque("kubernetes.authorization.ResourceCheck"),
        "decision" => Type::Opaque("kubernetes.authorization.Decision"),
        _ => Type::Dyn,
    }
}
