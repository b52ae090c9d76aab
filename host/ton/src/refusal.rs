//! What the contracts say no with. The numbers stand in `contracts/*refusals.tolk`, here is what they
//! mean; tests compare the two.

use core::fmt;

/// An enum of exit codes: variant, number, name in the contract, and what it means.
macro_rules! refusals {
    (
        $(#[$doc:meta])*
        $name:ident, $count:literal {
            $($variant:ident = $code:literal, $constant:literal, $means:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum $name {
            $(#[doc = $means] $variant = $code,)*
        }

        impl $name {
            /// All of them, by code.
            pub const ALL: [Self; $count] = [$(Self::$variant),*];

            /// The exit code.
            #[must_use]
            pub const fn exit_code(self) -> i32 {
                self as i32
            }

            /// The refusal with this exit code; `None` for success and for what TON's virtual
            /// machine itself throws.
            #[must_use]
            pub fn from_exit_code(code: i32) -> Option<Self> {
                Self::ALL.into_iter().find(|r| r.exit_code() == code)
            }

            /// Its name in the contract.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $constant,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $means,)*
                })
            }
        }
    };
}

refusals! {
    /// A refusal of the channel contract, by exit code.
    Refusal, 14 {
        CapForAnotherChannel = 101, "CAP_FOR_ANOTHER_CHANNEL",
            "the cap is for another channel or network";
        ReceiptForAnotherChannel = 102, "RECEIPT_FOR_ANOTHER_CHANNEL",
            "the receipt is for another channel or network";
        AboveCap = 103, "ABOVE_CAP", "the receipt is above the cap; a larger cap is needed";
        AlreadyPaid = 104, "ALREADY_PAID",
            "everything in the receipt was paid before; bring a newer one";
        BelowMinimum = 105, "BELOW_MINIMUM",
            "less is owed than the channel settles at once; wait for more";
        NotCovered = 106, "NOT_COVERED",
            "the deposit does not cover the least payment; top it up";
        PayerSignature = 107, "PAYER_SIGNATURE", "the payer did not sign this cap";
        MeterSignature = 108, "METER_SIGNATURE",
            "the meter that the cap names did not sign this receipt";
        NotACapOrReceipt = 109, "NOT_A_CAP_OR_RECEIPT",
            "a cell in the message is no cap, or no receipt";
        NotThePayer = 110, "NOT_THE_PAYER", "only the payer may ask to close";
        AlreadyClosing = 111, "ALREADY_CLOSING", "the channel is closing already";
        NotYetClosed = 112, "NOT_YET_CLOSED",
            "the channel is open, or its closing delay has not passed";
        NotThePayee = 113, "NOT_THE_PAYEE", "only the payee may close without a delay";
        UnknownMessage = 0xffff, "UNKNOWN_MESSAGE", "the contract does not know this message";
    }
}

refusals! {
    /// A refusal of the registry contract, by exit code.
    RegistryRefusal, 10 {
        OrderForAnotherRegistry = 201, "ORDER_FOR_ANOTHER_REGISTRY",
            "the order is for another registry or network";
        OrderOutOfTurn = 202, "ORDER_OUT_OF_TURN",
            "the order is for another version of the registry; it was carried out, or others came first";
        OrderExpired = 203, "ORDER_EXPIRED", "the order's time is over; have it signed again";
        NotAnOwner = 204, "NOT_AN_OWNER", "a signature has the number of no owner";
        OwnerSignature = 205, "OWNER_SIGNATURE", "an owner did not sign this order";
        TooFewOwners = 206, "TOO_FEW_OWNERS", "fewer owners signed than the registry needs";
        UnknownKind = 207, "UNKNOWN_KIND", "the registry keeps no entries of this kind";
        NoOwners = 208, "NO_OWNERS", "the order would leave the registry without owners";
        NotAnOrder = 209, "NOT_AN_ORDER", "the cell in the message is no order";
        UnknownMessage = 0xffff, "UNKNOWN_MESSAGE", "the contract does not know this message";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants of a contract's file of refusals.
    fn constants(file: &str) -> Vec<(String, i32)> {
        let line = |line: &str| {
            let (name, number) = line.strip_prefix("const ")?.split_once(" = ").unwrap();
            let number = number.strip_prefix("0x").map_or_else(
                || number.parse().unwrap(),
                |hex| i32::from_str_radix(hex, 16).unwrap(),
            );
            Some((name.to_owned(), number))
        };
        file.lines().filter_map(line).collect()
    }

    /// Whether a contract throws each of its codes, and nothing else.
    fn throws(contract: &str, names: &[&str]) {
        for name in names {
            let named = [format!(": {name}"), format!("throw {name}")];
            assert!(named.iter().any(|form| contract.contains(form)), "{name} is never thrown");
        }
        for line in contract.lines().filter(|line| line.contains("throw ")) {
            let (_, code) = line.rsplit_once("throw ").unwrap();
            assert!(names.iter().any(|name| code.starts_with(name)), "{line}");
        }
    }

    #[test]
    fn the_codes_are_those_of_the_contracts_by_name_and_number() {
        let channel = Refusal::ALL.map(|r| (r.name().to_owned(), r.exit_code()));
        assert_eq!(constants(include_str!("../contracts/refusals.tolk")), channel);
        let registry = RegistryRefusal::ALL.map(|r| (r.name().to_owned(), r.exit_code()));
        assert_eq!(constants(include_str!("../contracts/registry-refusals.tolk")), registry);
    }

    #[test]
    fn the_contracts_throw_every_code_and_no_number() {
        throws(include_str!("../contracts/channel.tolk"), &Refusal::ALL.map(Refusal::name));
        throws(
            include_str!("../contracts/registry.tolk"),
            &RegistryRefusal::ALL.map(RegistryRefusal::name),
        );
    }

    #[test]
    fn a_code_is_read_back_and_success_is_none() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_exit_code(refusal.exit_code()), Some(refusal));
        }
        for refusal in RegistryRefusal::ALL {
            assert_eq!(RegistryRefusal::from_exit_code(refusal.exit_code()), Some(refusal));
        }
        assert_eq!(Refusal::from_exit_code(0), None);
        assert_eq!(RegistryRefusal::from_exit_code(0), None);
    }
}
